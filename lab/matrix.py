"""The cells of the matrix: which network, which servers, and which verdicts are right there."""

import re
from dataclasses import dataclass, field

from topology import CLIENT_6, NATS, PORT, PUBLIC, REMAPPED

REACHABLE, FILTERED, UNREACHABLE = "reachable", "filtered", "unreachable"
# A NAT lets in only who was contacted, and no server dials from anywhere else: nobody could tell more.
CONTACTED = "contacted"

TRANSPORTS = {"tcp": ["tcp"], "quic": ["udp"], "both": ["tcp", "udp"]}


def multiaddr(proto, ip, port):
    family = "ip6" if ":" in ip else "ip4"
    return f"/{family}/{ip}/tcp/{port}" if proto == "tcp" else f"/{family}/{ip}/udp/{port}/quic-v1"


def parsed(addr):
    """Transport protocol, IP and port, or `None` for another stack than the client listens on."""
    found = re.fullmatch(r"/ip[46]/([^/]+)/(?:tcp/(\d+)|udp/(\d+)/quic-v1)", addr)
    if not found:
        return None
    return ("tcp", found[1], int(found[2])) if found[2] else ("udp", found[1], int(found[3]))


@dataclass(frozen=True)
class Box:
    nat: str
    forwards: bool = False


@dataclass(frozen=True)
class Cell:
    """One network with its servers."""

    name: str
    transport: str
    servers: tuple
    boxes: tuple = ()
    # Unwanted packets vanish; otherwise they are answered with a reset or ICMP.
    silent: bool = True
    ipv6: bool = False
    only_ipv6: bool = False
    host_firewall: bool = False
    blocks_tcp: bool = False
    # Per cent of all packets.
    loss: int = 0
    server_program: str = "ours"
    client_program: str = "ours"
    # What happens in mid-run: "forward", "unforward", "new IP", "servers leave", "stay".
    change: str = None
    runs: int = 0
    quick: bool = False
    tags: tuple = field(default=())

    @property
    def title(self):
        kinds = ", ".join(
            f"{self.servers.count(kind)} {kind}" for kind in dict.fromkeys(self.servers) if kind != "plain"
        )
        servers = f"{len(self.servers)}" + (f" ({kinds})" if kinds else "")
        if self.server_program != "ours":
            servers += f" {self.server_program}"
        silence = ""
        if self.boxes or self.host_firewall:
            silence = "drops" if self.silent else "rejects"
        return f"{self.name:<44} {silence:<8} {self.transport:<5} {servers}"

    @property
    def protos(self):
        return TRANSPORTS[self.transport]

    @property
    def ip(self):
        return CLIENT_6 if self.only_ipv6 else PUBLIC

    @property
    def independent(self):
        """Whether a server dials from an IP that the client has never contacted."""
        return any(kind in ("multihomed", "over IPv6") for kind in self.servers)

    def truth(self, addr, forwards=None, ip=None):
        """The right verdict on an address of the client."""
        door = parsed(addr)
        if door is None:
            return UNREACHABLE
        proto, at, port = door
        if proto not in self.protos or at not in (ip or self.ip, CLIENT_6):
            return UNREACHABLE
        if at == CLIENT_6 and not self.only_ipv6:
            return UNREACHABLE
        if not self.boxes:
            open_ = port == PORT and not self.host_firewall
            return REACHABLE if open_ else UNREACHABLE
        if forwards is None:
            forwards = all(box.forwards for box in self.boxes)
        if forwards and port == PORT:
            return REACHABLE
        if self.only_ipv6 or len(self.boxes) > 1:
            return UNREACHABLE
        nat = NATS[self.boxes[0].nat]
        mapped = PORT if nat.preserves_ports else REMAPPED
        if not nat.independent_mapping or port != mapped:
            return UNREACHABLE
        if proto == "tcp" and self.blocks_tcp:
            # No packet went out that a mapping could come from.
            return UNREACHABLE
        if nat.filtering == "anybody":
            return REACHABLE
        if nat.filtering == "address":
            return FILTERED if self.independent else CONTACTED
        return UNREACHABLE

    def doors(self):
        """The addresses that must get a verdict."""
        ports = [PORT]
        if self.boxes and not self.only_ipv6:
            nat = NATS[self.boxes[-1].nat]
            forwarded = all(box.forwards for box in self.boxes)
            if not nat.preserves_ports and not forwarded:
                ports = [REMAPPED]
        return [multiaddr(proto, self.ip, port) for proto in self.protos for port in ports]

    def expected(self, **now):
        return {door: self.truth(door, **now) for door in self.doors()}

    @property
    def shows_only_as_silence(self):
        """Whether some verdict depends on a packet that never comes: QUIC has no other sign, TCP where it is dropped."""
        closed = [parsed(door)[0] for door, truth in self.expected().items() if truth in (UNREACHABLE, FILTERED)]
        return any(proto == "udp" or self.silent for proto in closed)


def servers(count, **kinds):
    named = [kind.replace("_", " ") for kind, n in kinds.items() for _ in range(n)]
    named = ["over IPv6" if kind == "over ipv6" else kind for kind in named]
    return tuple(named + ["plain"] * (count - len(named)))


def nat_cells():
    """Each kind of NAT, with and without a forwarded port."""
    for transport in TRANSPORTS:
        yield Cell("no NAT", transport, servers(3))
        for silent in (True, False):
            yield Cell("no NAT, firewall on the host", transport, servers(3), silent=silent, host_firewall=True)
        for nat in NATS:
            for forwards in (False, True):
                name = f"{nat}, forwarded" if forwards else nat
                for silent in (True, False):
                    if forwards and not silent and nat != "port-restricted":
                        continue
                    yield Cell(name, transport, servers(3), (Box(nat, forwards),), silent)


CELLS = [*nat_cells()]
