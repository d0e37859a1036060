"""What is tried, and what must come of it."""

from dataclasses import dataclass, field

from messages import meaning
from net import Lab

PEERS = ["rust-libp2p", "go-libp2p", "js-libp2p"]
TRANSPORTS = ["tcp", "quic"]
PORT = 4001


def addr(transport, ip, port):
    family = "ip6" if ":" in ip else "ip4"
    rest = f"tcp/{port}" if transport == "tcp" else f"udp/{port}/quic-v1"
    return f"/{family}/{ip}/{rest}"


def websocket(port):
    """No server here dials WebSocket."""
    return f"/ip4/{Lab.CLIENT}/tcp/{port}/ws"


def server_addrs(port=PORT):
    """In the order of `Case.connect_to`. All servers listen on all of them and so know what they can dial."""
    return [addr(transport, ip, port) for ip in (Lab.SERVER, Lab.SERVER_6) for transport in TRANSPORTS]


@dataclass
class Fault:
    """What a foreign peer is known to do wrong, and how that shows."""

    name: str
    check: object


@dataclass
class Case:
    server_peer: str
    client_peer: str
    transport: str
    name: str
    client_options: dict
    expected: list
    never: list = field(default_factory=list)
    fault: Fault = None
    ipv6: bool = False
    server_options: dict = field(default_factory=dict)
    server_count: int = 1
    # The client's command line, if it does not speak the line protocol; the servers' addresses are added.
    arguments: list = None
    deadline: float = 60
    settle: float = 1.0
    expected_seconds: float = 2

    @property
    def pair(self):
        return (self.client_peer, self.server_peer)

    @property
    def title(self):
        pair = f"{self.client_peer} client, {self.server_peer} server"
        return f"{pair:<34} {self.transport:<5} {self.name:<42}"

    @property
    def connect_to(self):
        return TRANSPORTS.index(self.transport) + (2 if self.ipv6 else 0)

    def servers(self, lab):
        return [{"listen": server_addrs(PORT + i * 1000), **self.server_options} for i in range(self.server_count)]

    def client(self, lab):
        return self.client_options


def results(outcome, *addrs):
    return lambda run, lab: all(run.result(addr=a, outcome=outcome) for a in addrs)


def verdicts(verdict, *addrs):
    return lambda run, lab: all(run.verdict(a) == verdict for a in addrs)


def paid(low, high, a):
    def check(run, lab):
        paid = [e["dial_data"] for e in run.results(addr=a) if e.get("dial_data") is not None]
        return bool(paid) and all(low <= bytes <= high for bytes in paid)

    return check


RUST_WHOLE_ADDRESS = "asks for dial data for the client's own IP"
RUST_BLACKHOLE = "resets instead of E_DIAL_ERROR when a TCP dial gets no answer"
RUST_UNSUPPORTED = "E_DIAL_ERROR, after dial data, for a transport that it does not have"


def known(peer, transport, name, *addrs):
    """The known fault of a server that shows in this case."""
    if peer == "rust-libp2p":
        if name == "its own IP costs no dial data":
            return Fault(RUST_WHOLE_ADDRESS, paid(30_000, 100_000, *addrs))
        if name == "blackholed port" and transport == "tcp":
            return Fault(RUST_BLACKHOLE, results("reset", *addrs))
        if name == "refused":
            return Fault(RUST_UNSUPPORTED, results("dial-error", *addrs))
    return None


def served(**fields):
    return lambda run, lab: bool(run.served(**fields))


# ---- our client, their server ----


def our_client(peer, transport):
    def case(name, listen=(), test=(), expected=(), **more):
        options = {"listen": list(listen), "test": list(test), "together": more.pop("together", False)}
        about = list(test) or list(listen)
        more["fault"] = known(peer, transport, name, *about)
        return Case(peer, "ours", transport, name, options, list(expected), **more)

    good = addr(transport, Lab.CLIENT, Lab.OPEN)
    other = addr(transport, Lab.CLIENT_OTHER, Lab.OPEN)
    six = addr(transport, Lab.CLIENT_6, Lab.OPEN)
    closed = addr(transport, Lab.CLIENT, 4003)
    dropped = addr(transport, Lab.CLIENT, Lab.BLACKHOLED[0])
    ws = websocket(4004)
    ten = [addr(transport, Lab.CLIENT, port) for port in range(4020, 4030)]

    yield case(
        "reachable",
        listen=[good],
        expected=[("the nonce came", results("reachable", good)), ("verdict", verdicts("reachable", good))],
    )
    yield case(
        "its own IP costs no dial data",
        listen=[good],
        expected=[("the nonce came", results("reachable", good)), ("nothing paid", paid(0, 0, good))],
    )
    yield case(
        "closed port",
        listen=[good],
        test=[closed],
        expected=[
            ("E_DIAL_ERROR", results("dial-error", closed)),
            ("verdict on the closed port", verdicts("unreachable", closed)),
            ("verdict on the open port", verdicts("reachable", good)),
        ],
        expected_seconds=12 if transport == "quic" else 2,
    )
    yield case(
        "blackholed port",
        listen=[good],
        test=[dropped],
        expected=[
            ("E_DIAL_ERROR", results("dial-error", dropped)),
            ("verdict on the blackholed port", verdicts("unreachable", dropped)),
            ("verdict on the open port", verdicts("reachable", good)),
        ],
        expected_seconds=20,
    )
    yield case(
        "dial data for another IP",
        listen=[other],
        expected=[
            ("the nonce came", results("reachable", other)),
            ("30,000 to 100,000 bytes paid", paid(30_000, 100_000, other)),
            ("verdict", verdicts("reachable", other)),
        ],
        expected_seconds=4,
    )
    yield case(
        "several, the first undialable",
        listen=[good],
        test=[ws],
        together=True,
        expected=[
            ("asked about both at once", lambda run, lab: any(e["addresses"] == 2 for e in run.results())),
            ("the nonce came", results("reachable", good)),
            ("verdict on the dialable one", verdicts("reachable", good)),
        ],
        never=[("a verdict on the undialable one", lambda run, lab: run.verdict(ws) is not None)],
    )
    yield case(
        "refused",
        test=[ws],
        expected=[("E_DIAL_REFUSED", results("refused", ws))],
        never=[("it is believed reachable", lambda run, lab: run.verdict(ws) == "reachable")],
    )
    yield case(
        "IPv6",
        listen=[six],
        ipv6=True,
        expected=[("the nonce came", results("reachable", six)), ("verdict", verdicts("reachable", six))],
    )
    yield case(
        "ten probes in a row on one connection",
        listen=ten,
        expected=[
            ("ten nonces", results("reachable", *ten)),
            ("on one connection", lambda run, lab: len(run.client.all("connected", dialed=True)) == 1),
            ("verdicts", verdicts("reachable", *ten)),
        ],
        expected_seconds=5,
    )
    if peer == "go-libp2p":
        yield case(
            "over its limit",
            listen=[good],
            server_options={"limit": 0},
            expected=[("E_REQUEST_REJECTED", results("rejected", good))],
            never=[("a verdict", lambda run, lab: run.verdict(good) is not None)],
        )
        yield case(
            "reachable, a whole host",
            listen=[good],
            server_options={"full": True},
            expected=[("the nonce came", results("reachable", good)), ("verdict", verdicts("reachable", good))],
        )


# ---- the tool for a person, their server: that its answer is the right one ----


def report(run):
    """What it said, once it is over."""
    reports = run.client.all("report")
    return reports[0] if reports and run.client.ended else None


def says(code, *words):
    """It exits with this code, and its report has these words."""

    def check(run, lab):
        said = report(run)
        if said is None or run.client.process.wait(5) != code or said["exit_code"] != code:
            return False
        text = " ".join([said["explanation"], *said["advice"]])
        return all(word in text for word in words)

    return check


def tells(**fields):
    """It knows these addresses and no other, with these verdicts."""

    def check(run, lab):
        said = report(run)
        return said is not None and {a["address"]: a["verdict"] for a in said["addresses"]} == fields

    return check


def check_tool(peer):
    def case(transport, name, arguments, expected, **more):
        arguments = ["--json", "--quiet", *arguments]
        return Case(peer, "check", transport, name, {}, expected, arguments=arguments, **more)

    here, here_6 = ["--bind", Lab.CLIENT], ["--bind", Lab.CLIENT_6]
    dropped, shut = Lab.BLACKHOLED[5], Lab.REJECTED[5]
    for transport in TRANSPORTS:
        other = TRANSPORTS[1 - TRANSPORTS.index(transport)]
        good = [addr(t, ip, Lab.OPEN) for t in TRANSPORTS for ip in (Lab.CLIENT, Lab.CLIENT_6)]
        yield case(
            transport,
            "reachable over all there is",
            [*here, *here_6, "--port", str(Lab.OPEN)],
            [
                ("says yes", says(0, "YES", "all of its 4 addresses")),
                ("verdicts", tells(**dict.fromkeys(good, "reachable"))),
            ],
            expected_seconds=10,
        )
        yield case(
            transport,
            "a firewall that drops",
            [*here, f"--{transport}", str(dropped)],
            [
                ("says no, and what to do", says(1, "NO. Strangers", "its one address", "Open the port", "relay", "Hole punching")),
                ("verdict", tells(**{addr(transport, Lab.CLIENT, dropped): "unreachable"})),
            ],
            expected_seconds=30,
        )
        yield case(
            transport,
            "a firewall that rejects",
            [*here, f"--{transport}", str(shut)],
            [
                ("says no, and what to do", says(1, "NO. Strangers", "its one address", "Open the port", "relay", "Hole punching")),
                ("verdict", tells(**{addr(transport, Lab.CLIENT, shut): "unreachable"})),
            ],
            expected_seconds=12,
        )
        yield case(
            transport,
            "one open, one shut",
            [*here, f"--{transport}", str(Lab.OPEN), f"--{other}", str(shut)],
            [
                ("says on which", says(0, "YES", "1 of 2 addresses", f"open or forward {'UDP' if other == 'quic' else 'TCP'} port {shut}")),
                (
                    "verdicts",
                    tells(**{addr(transport, Lab.CLIENT, Lab.OPEN): "reachable", addr(other, Lab.CLIENT, shut): "unreachable"}),
                ),
            ],
            expected_seconds=15,
        )
        yield case(
            transport,
            "the server is busy",
            [*here, f"--{transport}", str(Lab.OPEN), "--timeout", "5"],
            [("says that it can't tell, and why", says(3, "UNDECIDED", "busy"))],
            server_options={"limit": 0},
            expected_seconds=7,
        )
    yield case(
        "tcp",
        "nobody listens at the server's port",
        [*here, "--tcp", str(Lab.OPEN), addr("tcp", Lab.SERVER, 4009)],
        [("says that nobody was asked, and why", says(4, "NO ANSWER", "nobody listens there"))],
        server_count=0,
    )
    yield case(
        "tcp",
        "no machine at the server's IP",
        [*here, "--tcp", str(Lab.OPEN), addr("tcp", Lab.NOBODY, 4009)],
        [("says that nobody was asked, and why", says(4, "NO ANSWER", "no machine answers"))],
        server_count=0,
        expected_seconds=5,
    )


# ---- a client by hand, their server: what the specification says and our client can't show ----


def answers(run):
    """Status, index and dial status of each answer that the tap got, once the stream is over."""
    if not run.client.any("done"):
        return None
    frames = run.client.all("frame", direction="received", stream="dial-request")
    heard = [meaning("dial-request", "received", "client", bytes.fromhex(e["hex"])) for e in frames]
    return [tuple(m["dial_response"].values()) for m in heard if "dial_response" in m]


def by_hand(peer):
    pair = [addr("tcp", Lab.CLIENT, port) for port in (Lab.OPEN, Lab.OPEN + 1)]
    first, second = ("OK", 0, "OK"), ("OK", 1, "OK")
    yield Case(
        peer,
        "tap",
        "tcp",
        "dials the first of two, and answers once",
        {"listen": pair, "test": pair},
        [("one answer, about the first", lambda run, lab: answers(run) == [first])],
        fault={
            "rust-libp2p": Fault("dials the last address", lambda run, lab: answers(run) == [second]),
            "js-libp2p": Fault("dials all addresses, and answers once for each", lambda run, lab: answers(run) == [first, second]),
        }.get(peer),
    )


# ---- their client, our server ----

# Over QUIC, go's reset of the dial-back stream overtakes its acknowledgement.
DELIVERED = {
    "status": "OK",
    "dial_status": "OK",
    "dial_back": ("Delivered", "NotDelivered(Reset)"),
    "end": "Answered",
}
DIAL_ERROR = {"status": "OK", "dial_status": "E_DIAL_ERROR", "end": "Answered"}
REFUSED = {"status": "E_DIAL_REFUSED", "end": "Answered"}


def rejected(run, lab):
    return any("E_REQUEST_REJECTED" in e.get("detail", "") for e in run.results())


def data_received(run, lab):
    return any(30_000 <= e["data_requested"] <= e["data_received"] for e in run.served(**DELIVERED))


def their_client(peer, transport):
    js = peer == "js-libp2p"

    def case(name, listen=(), test=(), expected=(), **more):
        # js asks about what it listens on, and can't be told to ask about anything else.
        options = {"listen": list(listen), "test": list(test), "together": more.pop("together", False)}
        options.update(more.pop("options", {}))
        return Case("ours", peer, transport, name, options, list(expected), **more)

    def says(outcome, *addrs):
        if js:
            return verdicts(outcome, *addrs)
        return results(outcome, *addrs)

    def believes(*addrs):
        return lambda run, lab: any(run.verdict(a) == "reachable" or run.result(addr=a, outcome="reachable") for a in addrs)

    good = addr(transport, Lab.CLIENT, Lab.OPEN)
    other = addr(transport, Lab.CLIENT_OTHER, Lab.OPEN)
    six = addr(transport, Lab.CLIENT_6, Lab.OPEN)
    # Where js listens, the port is shut by a firewall.
    closed = addr(transport, Lab.CLIENT, Lab.REJECTED[0] if js else 4003)
    dropped = addr(transport, Lab.CLIENT, Lab.BLACKHOLED[0])
    ws = websocket(4004)
    ten = [addr(transport, Lab.CLIENT, port) for port in range(4020, 4030)]

    def failed(name, a, seconds):
        # js has no verdict on an address before eight servers failed: it must not have the wrong one.
        return case(
            name,
            listen=[a] if js else [],
            test=[a],
            expected=[
                ("our server says E_DIAL_ERROR", served(tested=a, data_received=0, **DIAL_ERROR)),
                *([] if js else [("their verdict", says("unreachable", a))]),
            ],
            never=[("they believe it is reachable", believes(a))],
            expected_seconds=seconds,
        )

    yield case(
        "reachable, and no dial data",
        listen=[good],
        test=[good],
        expected=[
            ("our server delivered", served(tested=good, index=0, data_requested=0, **DELIVERED)),
            ("their verdict", says("reachable", good)),
        ],
    )
    yield failed("closed port", closed, 10 if transport == "quic" else 2)
    yield failed("blackholed port", dropped, 10)
    yield case(
        "dial data for another IP",
        listen=[other],
        test=[other],
        expected=[
            ("our server was paid", data_received),
            ("our server delivered", served(tested=other, **DELIVERED)),
            ("their verdict", says("reachable", other)),
        ],
        expected_seconds=4,
    )
    if peer == "rust-libp2p":
        # It puts one address in each request.
        yield case(
            "several, the first undialable, one a request",
            listen=[good],
            test=[ws, good],
            expected=[
                ("our server refused one", served(asked=[ws], **REFUSED)),
                ("our server delivered", served(tested=good, index=0, **DELIVERED)),
                ("their verdict", says("reachable", good)),
            ],
        )
    else:
        yield case(
            "several, the first undialable",
            listen=[ws, good] if js else [good],
            test=[ws, good],
            together=True,
            expected=[
                ("our server took the second", served(tested=good, index=1, passed_over=1, **DELIVERED)),
                ("their verdict", says("reachable", good)),
            ],
            never=[("they believe the other is reachable", believes(ws))],
        )
    yield case(
        "refused",
        listen=[ws] if js else [],
        test=[ws],
        # js over QUIC asks about the port it dialed from, too.
        server_options={"refuse": True} if js else {},
        expected=[
            ("our server refused", served(index=None, dial_back=None, **REFUSED)),
            *([("their result", says("refused", ws))] if peer == "go-libp2p" else []),
        ],
        never=[("they believe it is reachable", believes(ws))],
    )
    yield case(
        "over our limit",
        listen=[good],
        test=[good],
        server_options={"limit": 0},
        expected=[
            ("our server rejected", lambda run, lab: run.server.any("rejected")),
            *([("their result", rejected)] if peer == "go-libp2p" else []),
        ],
        never=[("they believe it is reachable", believes(good))],
    )
    yield case(
        "IPv6",
        listen=[six],
        test=[six],
        ipv6=True,
        expected=[
            ("our server delivered", served(tested=six, index=0, data_requested=0, **DELIVERED)),
            ("their verdict", says("reachable", six)),
        ],
    )
    delivered_ten = (
        "our server delivered ten",
        lambda run, lab: all(run.served(tested=a, **DELIVERED) for a in ten),
    )
    if js:
        # It asks once for each connection.
        yield case(
            "ten probes in a row on ten connections",
            listen=ten,
            options={"connections": 10},
            expected=[delivered_ten, ("their verdicts", says("reachable", *ten))],
            expected_seconds=8,
        )
    else:
        yield case(
            "ten probes in a row on one connection",
            listen=ten,
            test=ten,
            expected=[
                delivered_ten,
                ("their verdicts", says("reachable", *ten)),
                ("on one connection", lambda run, lab: len(run.server.all("connected", dialed=False)) == 1),
            ],
            deadline=90,
            expected_seconds=50 if peer == "rust-libp2p" else 5,
        )
    if peer == "go-libp2p":
        yield case(
            "four servers, a whole host",
            listen=[good],
            options={"full": True},
            server_count=4,
            expected=[
                ("our servers delivered", lambda run, lab: len(run.served(tested=good, **DELIVERED)) >= 3),
                ("their verdict", verdicts("reachable", good)),
            ],
            expected_seconds=6,
        )


def all_cases():
    for peer in PEERS:
        for transport in TRANSPORTS:
            yield from our_client(peer, transport)
    yield from check_tool("go-libp2p")
    for peer in ["ours", *PEERS]:
        yield from by_hand(peer)
    for peer in PEERS:
        for transport in TRANSPORTS:
            yield from their_client(peer, transport)


CASES = list(all_cases())
