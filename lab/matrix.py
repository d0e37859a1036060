"""The cells of the matrix: which network, which servers, and which verdicts are right there."""

import re
from dataclasses import dataclass

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
    """A NAT, and a firewall over IPv6."""

    nat: str
    forwards: bool = False


@dataclass(frozen=True)
class Cell:
    """One network with its servers."""

    name: str
    transport: str
    # "plain", "cannot dial" (what it starts is dropped on its way out), "multihomed" (dials from a second IP),
    # "over IPv6" (the client knows it over IPv6 only).
    servers: tuple
    # From the inside outwards.
    boxes: tuple = ()
    # Unwanted packets vanish; otherwise they are answered with a reset or ICMP.
    silent: bool = True
    # The client has a public IPv6 address too, behind a stateful firewall, or only that.
    ipv6: bool = False
    only_ipv6: bool = False
    listens_on_ipv6: bool = False
    # The firewall lets the client's port through.
    pinhole: bool = False
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
        return f"{self.name:<42} {silence:<7} {self.transport:<4} {servers:<20}"

    @property
    def protos(self):
        return TRANSPORTS[self.transport]

    @property
    def independent(self):
        """Whether a server dials from an IP that the client has never contacted."""
        return any(kind in ("multihomed", "over IPv6") for kind in self.servers)

    def known_over(self, number):
        """Transport protocol and IP family over which the client meets a server. Where there are two, they take turns."""
        kind = self.servers[number]
        protos = ["udp"] if self.blocks_tcp else self.protos
        ipv6 = self.only_ipv6 or kind == "over IPv6" or self.listens_on_ipv6 and number // len(protos) % 2 == 1
        return protos[number % len(protos)], 6 if ipv6 else 4

    def truth(self, addr, forwards=None, ip=PUBLIC):
        """The right verdict on an address of the client."""
        door = parsed(addr)
        if door is None or door[0] not in self.protos:
            return UNREACHABLE
        proto, at, port = door
        if at == CLIENT_6:
            listens = self.only_ipv6 or self.listens_on_ipv6
            return REACHABLE if listens and self.pinhole and port == PORT else UNREACHABLE
        if at != ip or self.only_ipv6:
            return UNREACHABLE
        if not self.boxes:
            return REACHABLE if port == PORT and not self.host_firewall else UNREACHABLE
        if forwards is None:
            forwards = all(box.forwards for box in self.boxes)
        if forwards and port == PORT:
            return REACHABLE
        if len(self.boxes) > 1:
            # One of them filters by port in every cell.
            return UNREACHABLE
        nat = NATS[self.boxes[0].nat]
        if not nat.independent_mapping or port != (PORT if nat.preserves_ports else REMAPPED):
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
        # Without a packet out, nobody has seen an IP for TCP.
        protos = ["udp"] if self.blocks_tcp else self.protos
        found = []
        if not self.only_ipv6:
            port = PORT
            if self.boxes and not NATS[self.boxes[-1].nat].preserves_ports and not all(box.forwards for box in self.boxes):
                port = REMAPPED
            found += [multiaddr(proto, PUBLIC, port) for proto in protos]
        if self.only_ipv6 or self.listens_on_ipv6:
            found += [multiaddr(proto, CLIENT_6, PORT) for proto in protos]
        return found

    def expected(self, forwards=None, ip=PUBLIC):
        doors = [door.replace(PUBLIC, ip) for door in self.doors()]
        return {door: self.truth(door, forwards, ip) for door in doors}

    @property
    def is_public(self):
        return any(truth in (REACHABLE, CONTACTED) for truth in self.expected().values())

    @property
    def shows_only_as_silence(self):
        """Whether the first right verdict is about a packet that never comes: over QUIC always, over TCP where it is dropped."""
        return not self.is_public and (self.silent or "tcp" not in self.protos) and not (
            set(self.expected().values()) == {FILTERED}
        )


def servers(count, kind="plain", special=0):
    """The special ones last, so that the first is one that the client meets in the usual way."""
    return ("plain",) * (count - special) + (kind,) * special


def nat_cells():
    """Each kind of NAT, with and without a forwarded port."""
    for transport in TRANSPORTS:
        yield Cell("no NAT", transport, servers(3), quick=True)
        for silent in (True, False):
            yield Cell("no NAT, firewall on the host", transport, servers(3), silent=silent, host_firewall=True)
        for nat in NATS:
            for forwards in (False, True):
                name = f"{nat}, forwarded" if forwards else nat
                for silent in (True, False):
                    if forwards and not silent:
                        continue
                    quick = transport != "both" and "other" not in nat and (forwards or silent == (transport == "quic"))
                    yield Cell(name, transport, servers(3), (Box(nat, forwards),), silent, quick=quick)


def vantage_cells():
    """Servers that dial from an IP that the client has never contacted."""
    for transport in TRANSPORTS:
        for count, special in ((3, 1), (5, 2), (7, 3)):
            for nat in ("address-restricted", "address-restricted, other ports", "full cone"):
                for silent in (True, False):
                    quick = nat == "address-restricted" and count == 3 and transport == "tcp"
                    yield Cell(nat, transport, servers(count, "multihomed", special), (Box(nat),), silent, quick=quick)
        for count, special in ((3, 1), (5, 2)):
            for nat, forwards in (("address-restricted", False), ("port-restricted", True), ("port-restricted", False)):
                name = f"{nat}, forwarded" if forwards else nat
                quick = nat == "address-restricted" and count == 3 and transport == "quic"
                yield Cell(name, transport, servers(count, "over IPv6", special), (Box(nat, forwards),), ipv6=True, quick=quick)


def server_cells():
    """More servers, and some that can't dial."""
    for transport in TRANSPORTS:
        for count in (5, 7):
            yield Cell("no NAT", transport, servers(count))
            for nat in ("port-restricted", "symmetric", "address-restricted"):
                for forwards in (False, True):
                    if nat == "address-restricted" and forwards:
                        continue
                    name = f"{nat}, forwarded" if forwards else nat
                    yield Cell(name, transport, servers(count), (Box(nat, forwards),), forwards)
        for count, deaf in ((3, 1), (5, 2), (7, 5)):
            yield Cell("no NAT", transport, servers(count, "cannot dial", deaf), quick=deaf == 5 and transport == "both")
            for nat in ("port-restricted", "symmetric"):
                for forwards in (False, True):
                    name = f"{nat}, forwarded" if forwards else nat
                    yield Cell(name, transport, servers(count, "cannot dial", deaf), (Box(nat, forwards),))


def row_cells():
    """Two NATs in a row."""
    for transport in TRANSPORTS:
        for inner, outer in (("port-restricted", "port-restricted"), ("port-restricted", "symmetric"), ("full cone", "port-restricted")):
            for inside, outside in ((False, False), (True, False), (False, True), (True, True)):
                where = {(False, False): "", (True, False): ", inner forwarded", (False, True): ", outer forwarded", (True, True): ", both forwarded"}
                if inside != outside and (inner != "port-restricted" or outer == "symmetric"):
                    continue
                boxes = (Box(inner, inside), Box(outer, outside))
                quick = transport == "tcp" and outer == "symmetric"
                yield Cell(f"{inner} in {outer}{where[inside, outside]}", transport, servers(3), boxes, inside == outside, quick=quick)


def other_cells():
    """IPv6, blocked TCP, loss."""
    for transport in TRANSPORTS:
        for pinhole in (False, True):
            boxes = (Box("port-restricted"),)
            name = "IPv6 firewall, port open" if pinhole else "IPv6 firewall"
            for silent in (True,) if pinhole else (True, False):
                yield Cell(name, transport, servers(3), boxes, silent, ipv6=True, only_ipv6=True, pinhole=pinhole, quick=transport == "tcp")
            name = "port-restricted and IPv6" + (" with port open" if pinhole else " firewall")
            yield Cell(name, transport, servers(7), boxes, False, ipv6=True, listens_on_ipv6=True, pinhole=pinhole)
    for forwards in (False, True):
        name = "outbound TCP blocked, forwarded" if forwards else "outbound TCP blocked"
        yield Cell(name, "both", servers(3), (Box("port-restricted", forwards),), blocks_tcp=True, quick=forwards)
    for transport in TRANSPORTS:
        for loss in (5, 15):
            yield Cell(f"no NAT, {loss}% loss", transport, servers(5), loss=loss, quick=loss == 5 and transport == "both")
            for forwards in (False, True):
                name = f"port-restricted{', forwarded' if forwards else ''}, {loss}% loss"
                yield Cell(name, transport, servers(5), (Box("port-restricted", forwards),), loss=loss)


CELLS = [*nat_cells(), *vantage_cells(), *server_cells(), *row_cells(), *other_cells()]
