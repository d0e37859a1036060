"""The cells of the matrix: which network, which servers, and which verdicts are right there."""

import re
from dataclasses import dataclass, replace

from topology import CLIENT_6, NATS, PORT, PUBLIC, PUBLIC_NEW, REMAPPED

REACHABLE, FILTERED, UNREACHABLE = "reachable", "filtered", "unreachable"
# A NAT lets in only who was contacted, and no server is known to dial from anywhere else: nobody could tell more.
CONTACTED = "contacted"
# How many servers known to dial from elsewhere have to fail before it is put down to the NAT: one of unknown ability may
# fail for reasons of its own.
ENOUGH = 2

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


CHANGES = ("forwarding added", "forwarding removed", "new external IP", "servers leave", "10 minutes")


@dataclass(frozen=True)
class Box:
    """A NAT, and a firewall over IPv6."""

    nat: str
    # The transport protocols whose port leads to the client.
    forwards: tuple = ()


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
    # The client knows all servers over TCP, whatever it listens on.
    met_over_tcp: bool = False
    # The client has forty network interfaces of which some come and go, and serves too; the servers are clients, and ask it.
    messy: bool = False
    # Per cent of all packets.
    loss: int = 0
    server_program: str = "ours"
    client_program: str = "ours"
    # What happens in mid-run: one of `CHANGES`.
    change: str = None
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
        name = f"{self.name}, {self.change}" if self.change else self.name
        client = f" {self.client_program}" if self.client_program != "ours" else ""
        return f"{name:<48} {silence:<7} {self.transport:<4} {servers:<20}{client}"

    @property
    def protos(self):
        return TRANSPORTS[self.transport]

    def shows_filtering(self, proto):
        """Whether a client can tell that only those get in whom it has contacted, at a door of this transport protocol.

        It needs servers of which it knows that they dial from an IP that it has never contacted over this protocol: a NAT
        filters each by itself. A multihomed one that has never got through at this door looks like one that can't dial.
        """
        over_other = sum(
            kind == "plain" and self.known_over(number)[0] != proto
            for number, kind in enumerate(self.servers)
        )
        return self.servers.count("over IPv6") + over_other >= ENOUGH

    def known_over(self, number):
        """Transport protocol and IP family over which the client meets a server. Where there are two, they take turns."""
        kind = self.servers[number]
        protos = ["udp"] if self.blocks_tcp else ["tcp"] if self.met_over_tcp else self.protos
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
        forwarded = all(proto in box.forwards for box in self.boxes) if forwards is None else proto in forwards
        if forwarded and port == PORT:
            return REACHABLE
        if len(self.boxes) > 1:
            # One of them filters by port in every cell.
            return UNREACHABLE
        nat = NATS[self.boxes[0].nat]
        if not nat.independent_mapping or port != (PORT if nat.preserves_ports else REMAPPED):
            return UNREACHABLE
        if self.blocks_tcp if proto == "tcp" else self.met_over_tcp:
            # No packet went out that a mapping could come from.
            return UNREACHABLE
        if nat.filtering == "anybody":
            return REACHABLE
        if nat.filtering == "address":
            return FILTERED if self.shows_filtering(proto) else CONTACTED
        return UNREACHABLE

    def doors(self):
        """The addresses that must get a verdict."""
        found = []
        if not self.only_ipv6:
            for proto in self.protos:
                remaps = self.boxes and not NATS[self.boxes[-1].nat].preserves_ports
                forwarded = all(proto in box.forwards for box in self.boxes)
                found.append(multiaddr(proto, PUBLIC, REMAPPED if remaps and not forwarded else PORT))
        if self.only_ipv6 or self.listens_on_ipv6:
            found += [multiaddr(proto, CLIENT_6, PORT) for proto in self.protos]
        return found

    def expected(self, forwards=None, ip=PUBLIC):
        doors = [door.replace(PUBLIC, ip) for door in self.doors()]
        return {door: self.truth(door, forwards, ip) for door in doors}

    def after(self):
        """Who is let in after the change, and at which IP."""
        forwards = {"forwarding added": self.protos, "forwarding removed": ()}.get(self.change)
        return forwards, PUBLIC_NEW if self.change == "new external IP" else PUBLIC

    @property
    def is_public(self):
        return any(truth in (REACHABLE, CONTACTED) for truth in self.expected().values())

    @property
    def shows_only_as_silence(self):
        """Whether the first right verdict is about a packet that never comes: over QUIC always, over TCP where it is dropped."""
        return not self.is_public and (self.silent or "tcp" not in self.protos)


BOTH = ("tcp", "udp")


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
            for forwards in ((), BOTH):
                name = f"{nat}, forwarded" if forwards else nat
                for silent in (True, False):
                    if forwards and not silent:
                        continue
                    quick = transport != "both" and "other" not in nat and bool(forwards or silent == (transport == "quic"))
                    yield Cell(name, transport, servers(3), (Box(nat, forwards),), silent, quick=quick)


def vantage_cells():
    """Servers that dial from an IP that the client has never contacted."""
    for transport in TRANSPORTS:
        for count, special in ((3, 1), (5, 2), (7, 3)):
            for nat in ("address-restricted", "address-restricted, other ports", "full cone"):
                for silent in (True, False):
                    quick = count == 3 and (nat, transport) in (("address-restricted", "tcp"), ("full cone", "quic"))
                    yield Cell(nat, transport, servers(count, "multihomed", special), (Box(nat),), silent, quick=quick)
        if transport == "both":
            for special in (1, 2):
                kinds = servers(5, "multihomed", special)
                yield Cell("address-restricted, TCP forwarded", transport, kinds, (Box("address-restricted", ("tcp",)),))
        for count, special in ((3, 1), (5, 2)):
            for nat, forwards in (("address-restricted", ()), ("port-restricted", BOTH), ("port-restricted", ())):
                name = f"{nat}, forwarded" if forwards else nat
                quick = nat == "address-restricted" and count == 5 and transport == "quic"
                yield Cell(name, transport, servers(count, "over IPv6", special), (Box(nat, forwards),), ipv6=True, quick=quick)


def server_cells():
    """More servers, and some that can't dial."""
    for transport in TRANSPORTS:
        for count in (5, 7):
            yield Cell("no NAT", transport, servers(count))
            for nat in ("port-restricted", "symmetric", "address-restricted"):
                for forwards in ((), BOTH):
                    if nat == "address-restricted" and forwards:
                        continue
                    name = f"{nat}, forwarded" if forwards else nat
                    quick = nat == "address-restricted" and transport == "both" and count == 5
                    yield Cell(name, transport, servers(count), (Box(nat, forwards),), silent=bool(forwards), quick=quick)
        for count, deaf in ((3, 1), (5, 2), (7, 5)):
            yield Cell("no NAT", transport, servers(count, "cannot dial", deaf), quick=deaf == 5 and transport == "both")
            for nat in ("port-restricted", "symmetric"):
                for forwards in ((), BOTH):
                    name = f"{nat}, forwarded" if forwards else nat
                    yield Cell(name, transport, servers(count, "cannot dial", deaf), (Box(nat, forwards),))


def row_cells():
    """Two NATs in a row."""
    for transport in TRANSPORTS:
        for inner, outer in (("port-restricted", "port-restricted"), ("port-restricted", "symmetric"), ("full cone", "port-restricted")):
            for inside, outside in (((), ()), (BOTH, ()), ((), BOTH), (BOTH, BOTH)):
                where = {((), ()): "", (BOTH, ()): ", inner forwarded", ((), BOTH): ", outer forwarded", (BOTH, BOTH): ", both forwarded"}
                if inside != outside and (inner != "port-restricted" or outer == "symmetric"):
                    continue
                boxes = (Box(inner, inside), Box(outer, outside))
                quick = transport == "tcp" and outer == "symmetric"
                yield Cell(f"{inner} in {outer}{where[inside, outside]}", transport, servers(3), boxes, inside == outside, quick=quick)


def other_cells():
    """IPv6, blocked TCP, servers of one transport, loss."""
    for transport in TRANSPORTS:
        for pinhole in (False, True):
            boxes = (Box("port-restricted"),)
            name = "IPv6 firewall, port open" if pinhole else "IPv6 firewall"
            for silent in (True,) if pinhole else (True, False):
                yield Cell(name, transport, servers(3), boxes, silent, ipv6=True, only_ipv6=True, pinhole=pinhole, quick=transport == "tcp")
            name = "port-restricted and IPv6" + (" with port open" if pinhole else " firewall")
            yield Cell(name, transport, servers(7), boxes, False, ipv6=True, listens_on_ipv6=True, pinhole=pinhole)
    for forwards in ((), BOTH):
        name = "outbound TCP blocked, forwarded" if forwards else "outbound TCP blocked"
        yield Cell(name, "both", servers(3), (Box("port-restricted", forwards),), blocks_tcp=True, quick=bool(forwards))
    for nat, forwards in (("port-restricted", ()), ("port-restricted", BOTH), ("symmetric", BOTH)):
        name = f"{nat}{', forwarded' if forwards else ''}, met over TCP"
        yield Cell(name, "both", servers(3), (Box(nat, forwards),), met_over_tcp=True, quick=nat == "symmetric")
    for transport in TRANSPORTS:
        for loss in (5, 15):
            yield Cell(f"no NAT, {loss}% loss", transport, servers(5), loss=loss, quick=loss == 5 and transport == "both")
            for forwards in ((), BOTH):
                name = f"port-restricted{', forwarded' if forwards else ''}, {loss}% loss"
                yield Cell(name, transport, servers(5), (Box("port-restricted", forwards),), loss=loss)


def change_cells():
    """What changes in mid-run."""
    for transport in TRANSPORTS:
        for nat in ("port-restricted", "symmetric"):
            for silent in (True, False):
                quick = transport == "tcp" and nat == "port-restricted" and not silent
                yield Cell(nat, transport, servers(5), (Box(nat),), silent, change="forwarding added", quick=quick)
            quick = transport == "quic" and nat == "symmetric"
            yield Cell(f"{nat}, forwarded", transport, servers(5), (Box(nat, BOTH),), change="forwarding removed", quick=quick)
            for silent in (True, False):
                yield Cell(f"{nat}, forwarded", transport, servers(5), (Box(nat, BOTH),), silent, change="new external IP")
        yield Cell("full cone", transport, servers(5), (Box("full cone"),), change="new external IP", quick=transport == "quic")
        if transport == "both":
            boxes = (Box("port-restricted", BOTH),)
            yield Cell("port-restricted, forwarded, met over TCP", transport, servers(5), boxes, met_over_tcp=True, change="new external IP")
        for nat, forwards in (("port-restricted", BOTH), ("port-restricted", ())):
            name = f"{nat}, forwarded" if forwards else nat
            yield Cell(name, transport, servers(5), (Box(nat, forwards),), change="servers leave")


def messy_cells():
    """A host as people have them, behind a NAT that changes ports."""
    name = "symmetric, messy host"
    yield Cell(name, "both", servers(7), (Box("symmetric"),), messy=True, quick=True)
    yield Cell(name, "both", servers(7), (Box("symmetric"),), messy=True, change="10 minutes")
    yield Cell(f"{name}, forwarded", "both", servers(7), (Box("symmetric", BOTH),), messy=True)


def go_server_cells():
    """Servers of go-libp2p."""
    networks = [
        ("no NAT", ()),
        ("address-restricted", (Box("address-restricted"),)),
        ("port-restricted", (Box("port-restricted"),)),
        ("port-restricted, forwarded", (Box("port-restricted", BOTH),)),
        ("symmetric", (Box("symmetric"),)),
        ("symmetric, forwarded", (Box("symmetric", BOTH),)),
    ]
    for transport in TRANSPORTS:
        for count in (3, 5, 7):
            for name, boxes in networks:
                quick = transport == "tcp" and count == 3 and name in ("no NAT", "port-restricted")
                yield Cell(name, transport, servers(count), boxes, False, server_program="go-libp2p", quick=quick)
        for name, boxes in networks[:1] + networks[3:4]:
            yield Cell(name, transport, servers(7, "cannot dial", 5), boxes, False, server_program="go-libp2p")


def compared_cells():
    """Where clients are compared: seven servers, since go-libp2p believes in an address that four have seen."""
    networks = [
        ("no NAT", ()),
        *((nat, (Box(nat),)) for nat in NATS),
        *((f"{nat}, forwarded", (Box(nat, BOTH),)) for nat in ("port-restricted", "symmetric")),
    ]
    for transport in ("tcp", "quic"):
        for program in ("ours", "go-libp2p"):
            for name, boxes in networks:
                if program == "ours" or name != "full cone" and "other" not in name:
                    yield Cell(name, transport, servers(7), boxes, server_program=program)
        for name, boxes in networks[:1] + [("port-restricted, forwarded", (Box("port-restricted", BOTH),))]:
            yield Cell(name, transport, servers(7, "cannot dial", 5), boxes)
        yield Cell("address-restricted", transport, servers(7, "over IPv6", 3), (Box("address-restricted"),), ipv6=True)
        for change in ("forwarding added", "forwarding removed"):
            boxes = (Box("port-restricted", BOTH if change == "forwarding removed" else ()),)
            yield Cell("port-restricted", transport, servers(7), boxes, change=change)


def lasting_cells():
    """Most servers unable to dial back, for long."""
    for transport in TRANSPORTS:
        for name, boxes in (("no NAT", ()), ("port-restricted, forwarded", (Box("port-restricted", BOTH),))):
            yield Cell(name, transport, servers(7, "cannot dial", 5), boxes, change="10 minutes")


CELLS = [
    *nat_cells(),
    *vantage_cells(),
    *server_cells(),
    *go_server_cells(),
    *row_cells(),
    *other_cells(),
    *change_cells(),
    *lasting_cells(),
    *messy_cells(),
]
COMPARED = [
    replace(cell, client_program=client) for cell in compared_cells() for client in ("ours", "libp2p-autonat", "go-libp2p")
]
