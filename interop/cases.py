"""What is tried, and what must come of it."""

from dataclasses import dataclass, field

import nim
from messages import meaning, read_frames
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
    """What a foreign peer is known to do wrong, how that shows, and which expectations that replaces. All others stand."""

    name: str
    check: object
    replaces: tuple


# Three times what a success takes at most on a free machine: two cores may be busy.
SUCCESS = 15
# go waits for up to 3 s before it dials.
SUCCESS_WITH_GO_DATA = 30
# libp2p-autonat's client does nothing in its first five seconds, and between its rounds.
RUST_ROUND = 5
# Until servers give up on an address that does not answer. js dials one after the other.
SILENCE = 20
SILENCE_JS = 40
# Our server's limit for a request, and how late a busy machine may be.
OUR_LIMIT_MILLIS = 9_000 + 1_000


@dataclass
class Case:
    server_peer: str
    client_peer: str
    transport: str
    name: str
    client_options: dict
    # What must come, and how it shows.
    expected: list
    never: list = field(default_factory=list)
    fault: Fault = None
    ipv6: bool = False
    server_options: dict = field(default_factory=dict)
    server_count: int = 1
    # Each server at an IP of its own, in another /8.
    spread: bool = False
    # The client's command line, if it does not speak the line protocol; the servers' addresses are added.
    arguments: list = None
    # Nobody can know anything about any address: each verdict is a wrong one.
    unknowable: bool = False
    # Our server may be over a limit.
    rejects: bool = False
    # From when the client is ready.
    deadline: float = SUCCESS
    # Time for what must not happen.
    settle: float = 1.0
    expected_seconds: float = 3

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

    def servers(self):
        if self.spread:
            listen = [[addr(transport, ip, PORT) for transport in TRANSPORTS] for ip in Lab.SERVERS[: self.server_count]]
        else:
            listen = [server_addrs(PORT + i * 1000) for i in range(self.server_count)]
        return [{"listen": addrs, **self.server_options} for addrs in listen]

    def truth(self, a):
        """The only right verdict on an address; `None` if there must be none."""
        if self.unknowable or a.endswith("/ws"):
            return None
        port = int(a.split("/")[4])
        walled = port in Lab.BLACKHOLED or port in Lab.REJECTED
        return "reachable" if a in self.client_options["listen"] and not walled else "unreachable"


def stripped(a):
    return a.split("/p2p/")[0]


def results(outcome, *addrs):
    return lambda run: all(run.result(addr=a, outcome=outcome) for a in addrs)


def verdicts(verdict, *addrs):
    return lambda run: all(run.verdict(a) == verdict for a in addrs)


def paid(low, high, a):
    def check(run):
        paid = [e["dial_data"] for e in run.results(addr=a) if e.get("dial_data") is not None]
        return bool(paid) and all(low <= bytes <= high for bytes in paid)

    return check


def served(**fields):
    return lambda run: bool(run.served(**fields))


def dialed_out(*addrs):
    """The server has connected to these addresses."""
    return lambda run: {stripped(e["remote"]) for e in run.server.all("connected", dialed=True)} >= set(addrs)


def came_in(*addrs):
    """Dial-backs came in at these addresses of a client of ours. Nobody else connects to it."""
    return lambda run: {e["local"] for e in run.client.all("connected", dialed=False)} >= set(addrs)


# ---- our client, their server ----

REFUSAL = "E_DIAL_REFUSED"
FAILURE = "E_DIAL_ERROR"
THEY_ANSWERED = "their server answered"
NOTHING_PAID = "nothing paid"
VERDICT_CLOSED = "verdict on the closed port"
PROOF = ("the nonce came", "dial-back at the address", "verdict")
TEN_IN_A_ROW = "ten probes in a row on one connection"
# Peers that tell whom they connect to. go says so of its server in another way, and nim need not.
TELL_CONNECTIONS = ("rust-libp2p", "js-libp2p")


def known(peer, transport, name, a):
    """The known fault of a server that shows in this case."""
    if peer == "rust-libp2p":
        if name == "its own IP costs no dial data":
            return Fault("asks for dial data for the client's own IP", paid(30_000, 100_000, a), (NOTHING_PAID,))
        if name == "blackholed port" and transport == "tcp":
            return Fault(
                "resets instead of E_DIAL_ERROR when a TCP dial gets no answer",
                results("reset", a),
                (FAILURE, THEY_ANSWERED, VERDICT_CLOSED),
            )
        if name == "refused":
            return Fault(
                "E_DIAL_ERROR, after dial data, for a transport that it does not have",
                lambda run: results("dial-error", a)(run) and paid(30_000, 100_000, a)(run),
                (REFUSAL,),
            )
    if nim.is_old(peer):
        if name in ("closed port", "blackholed port"):
            return Fault("E_DIAL_REFUSED for a dial that failed", results("refused", a), (FAILURE, VERDICT_CLOSED))
        if name == TEN_IN_A_ROW and transport == "quic":
            return Fault(
                "dials over QUIC once",
                lambda run: run.result(outcome="reachable") and run.result(outcome="refused"),
                PROOF,
            )
    return None


def delivered_by(peer, *addrs, data=None):
    """What their server itself shows of a dial-back. `data`: whether it asked for dial data."""
    if peer == "go-libp2p":
        fields = {"status": "OK", "dial_status": "OK", **({} if data is None else {"data_requested": data})}
        yield THEY_ANSWERED, lambda run: all(run.served(tested=a, **fields) for a in addrs)
    if peer in TELL_CONNECTIONS:
        yield "their server dialed", dialed_out(*addrs)
    if peer == "rust-libp2p":
        yield THEY_ANSWERED, lambda run: all(run.served(asked=[a], tested=a, result="Ok(())") for a in addrs)


def failed_by(peer, a):
    """What their server itself shows of a dial that failed. js and nim show nothing."""
    if peer == "go-libp2p":
        yield THEY_ANSWERED, served(tested=a, status="OK", dial_status="E_DIAL_ERROR", data_requested=False)
    if peer == "rust-libp2p":
        yield "their server tried", lambda run: any(f"({a}/p2p/" in e["error"] for e in run.server.all("dial-failed"))
        yield THEY_ANSWERED, served(asked=[a], tested=a, result="Ok(())")


def second_of_two(peer, first, second):
    """One request, and its answer about the second address."""

    def same_request(run):
        of = {}
        for e in run.results(addresses=2):
            of.setdefault(e["request"], []).append((e["addr"], e["outcome"]))
        # js answers for each address, in order.
        heard = [(second, "reachable")] if peer != "js-libp2p" else [(first, "refused"), (second, "reachable")]
        return heard in of.values()

    yield "the second of two in one request is reachable", same_request
    if peer == "go-libp2p":
        exchange = {"asked": [first, second], "status": "OK", "index": 1, "dial_status": "OK"}
        yield "their server was asked about both, and answered about the second", lambda run: run.server.any("exchange", **exchange)
    elif peer == "rust-libp2p":
        served_both = served(asked=[first, second], tested=second, result="Ok(())")
        yield "their server was asked about both, and answered about the second", served_both
    if peer in TELL_CONNECTIONS:
        yield "their server dialed", dialed_out(second)


def our_client(peer, transport):
    def case(name, listen=(), test=(), expected=(), **more):
        options = {"listen": list(listen), "test": list(test), "together": more.pop("together", False)}
        fault = known(peer, transport, name, (list(test) or list(listen))[0])
        return Case(peer, "ours", transport, name, options, list(expected), fault=fault, **more)

    good = addr(transport, Lab.CLIENT, Lab.OPEN)
    other = addr(transport, Lab.CLIENT_OTHER, Lab.OPEN)
    six = addr(transport, Lab.CLIENT_6, Lab.OPEN)
    closed = addr(transport, Lab.CLIENT, 4003)
    dropped = addr(transport, Lab.CLIENT, Lab.BLACKHOLED[0])
    ws = websocket(4004)
    ten = [addr(transport, Lab.CLIENT, port) for port in range(4020, 4030)]
    silence = SILENCE_JS if peer == "js-libp2p" else SILENCE

    def proven(*addrs, **more):
        """What a success is, on both sides."""
        checks = (results("reachable", *addrs), came_in(*addrs), verdicts("reachable", *addrs))
        return [
            *zip(PROOF, checks),
            *delivered_by(peer, *addrs, **more),
        ]

    def failed(a):
        # The open port shows that this server can dial.
        open_port = [(f"open port: {what}", check) for what, check in proven(good)]
        return [(FAILURE, results("dial-error", a)), (VERDICT_CLOSED, verdicts("unreachable", a)), *failed_by(peer, a), *open_port]

    yield case("reachable", listen=[good], expected=proven(good))
    yield case(
        "its own IP costs no dial data",
        listen=[good],
        expected=[*proven(good, data=False), (NOTHING_PAID, paid(0, 0, good))],
    )
    yield case(
        "closed port",
        listen=[good],
        test=[closed],
        expected=failed(closed),
        # Over QUIC nobody says that a port is closed.
        deadline=silence if transport == "quic" else SUCCESS,
        expected_seconds=12 if transport == "quic" else 2,
    )
    yield case(
        "blackholed port",
        listen=[good],
        test=[dropped],
        expected=failed(dropped),
        deadline=silence,
        expected_seconds=12,
    )

    def as_much(run):
        """Both sides count the same."""
        asked = [e["data_requested"] for e in run.served(tested=other)]
        return bool(asked) and asked == [e["dial_data"] for e in run.results(addr=other)]

    yield case(
        "dial data for another IP",
        listen=[other],
        expected=[
            *proven(other, data=True),
            ("30,000 to 100,000 bytes paid", paid(30_000, 100_000, other)),
            *([("as many as were asked for", as_much)] if peer == "rust-libp2p" else []),
        ],
        deadline=SUCCESS_WITH_GO_DATA if peer == "go-libp2p" else SUCCESS,
        expected_seconds=4,
    )
    yield case(
        "several, the first undialable",
        listen=[good],
        test=[ws],
        together=True,
        expected=[
            *second_of_two(peer, ws, good),
            ("dial-back at the address", came_in(good)),
            ("verdict on the dialable one", verdicts("reachable", good)),
        ],
    )
    yield case(
        "refused",
        test=[ws],
        expected=[
            (REFUSAL, results("refused", ws)),
            *([("their server refused", served(status="E_DIAL_REFUSED"))] if peer == "go-libp2p" else []),
            *([(THEY_ANSWERED, served(asked=[ws], tested=ws, result="Ok(())"))] if peer == "rust-libp2p" else []),
        ],
    )
    yield case("IPv6", listen=[six], ipv6=True, expected=proven(six))
    yield case(
        TEN_IN_A_ROW,
        listen=ten,
        expected=[
            *proven(*ten),
            ("on one connection", lambda run: len(run.client.all("connected", dialed=True)) == 1),
        ],
        expected_seconds=5,
    )
    if peer == "go-libp2p":
        yield case(
            "over its limit",
            listen=[good],
            server_options={"limit": 0},
            expected=[
                ("E_REQUEST_REJECTED", results("rejected", good)),
                ("their server rejected", served(status="E_REQUEST_REJECTED")),
            ],
            unknowable=True,
        )
        # Such a host tells nothing about its service.
        yield case(
            "reachable, a whole host",
            listen=[good],
            server_options={"full": True},
            expected=[
                ("the nonce came", results("reachable", good)),
                ("dial-back at the address", came_in(good)),
                ("verdict", verdicts("reachable", good)),
            ],
        )


# ---- the tool for a person, their server: that its answer is the right one ----


def report(run):
    """What it said, once it is over."""
    reports = run.client.all("report")
    return reports[0] if reports and run.client.ended else None


def says(code, *words):
    """It exits with this code, and its report has these words."""

    def check(run):
        said = report(run)
        if said is None or run.client.process.wait(5) != code or said["exit_code"] != code:
            return False
        errors = [server["error"] or "" for server in said["servers"]]
        text = " ".join([said["explanation"], *said["advice"], *errors])
        return all(word in text for word in words)

    return check


def tells(**fields):
    """It knows these addresses and no other, with these verdicts."""

    def check(run):
        said = report(run)
        return said is not None and {a["address"]: a["verdict"] for a in said["addresses"]} == fields

    return check


def check_tool(peer):
    def case(transport, name, arguments, expected, **more):
        arguments = ["--json", "--quiet", *arguments]
        return Case(peer, "check", transport, name, {}, expected, arguments=arguments, deadline=30, **more)

    def judged(dial_status, *addrs):
        said = f"their server said {dial_status}"
        return said, lambda run: all(run.served(tested=a, status="OK", dial_status=dial_status) for a in addrs)

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
                judged("OK", *good),
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
                judged("E_DIAL_ERROR", addr(transport, Lab.CLIENT, dropped)),
            ],
            expected_seconds=8,
        )
        yield case(
            transport,
            "a firewall that rejects",
            [*here, f"--{transport}", str(shut)],
            [
                ("says no, and what to do", says(1, "NO. Strangers", "its one address", "Open the port", "relay", "Hole punching")),
                ("verdict", tells(**{addr(transport, Lab.CLIENT, shut): "unreachable"})),
                judged("E_DIAL_ERROR", addr(transport, Lab.CLIENT, shut)),
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
                judged("OK", addr(transport, Lab.CLIENT, Lab.OPEN)),
                judged("E_DIAL_ERROR", addr(other, Lab.CLIENT, shut)),
            ],
            expected_seconds=15,
        )
        yield case(
            transport,
            "the server is busy",
            [*here, f"--{transport}", str(Lab.OPEN), "--timeout", "5"],
            [
                ("says that it can't tell, and why", says(3, "UNDECIDED", "busy")),
                ("their server rejected", served(status="E_REQUEST_REJECTED")),
            ],
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
    return [tuple(m["dial_response"].values()) for m in frames(run, "received", "dial-request") if "dial_response" in m]


def frames(run, direction, stream):
    found = read_frames(run.client, direction=direction, stream=stream)
    return [meaning(stream, direction, "client", bytes.fromhex(e["hex"])) for e in found]


def by_hand(peer, transport):
    pair = [addr(transport, Lab.CLIENT, port) for port in (Lab.OPEN, Lab.OPEN + 1)]
    first, second = ("OK", 0, "OK"), ("OK", 1, "OK")

    def answered(*wanted):
        return lambda run: answers(run) == list(wanted)

    def dial_backs(count):
        """So many, each with the nonce of the request."""

        def check(run):
            nonces = [m["dial_request"]["nonce"] for m in frames(run, "sent", "dial-request") if "dial_request" in m]
            return [m["dial_back"]["nonce"] for m in frames(run, "received", "dial-back")] == nonces * count

        return check

    def connections(*wanted):
        return lambda run: [e["local"] for e in run.client.all("connected", dialed=False)] == list(wanted)

    def both(*checks):
        return lambda run: all(check(run) for check in checks)

    one_answer, one_dial_back, one_connection = "one answer, about the first", "one dial-back, with the nonce", "one connection, to the first"
    expected = [
        (one_answer, answered(first)),
        (one_dial_back, dial_backs(1)),
        (one_connection, connections(pair[0])),
    ]
    if peer == "ours":
        index_0 = {"asked": pair, "index": 0, "tested": pair[0], "passed_over": 0, **delivered("tap", transport)}
        expected.append(("our server served it, and nothing else", lambda run: len(run.served(**index_0)) == len(run.served()) == 1))
    if peer == "go-libp2p":
        exchange = {"asked": pair, "status": "OK", "index": 0, "dial_status": "OK"}
        expected.append((THEY_ANSWERED, lambda run: run.server.any("exchange", **exchange)))
        expected.append(("their server dialed", served(tested=pair[0], status="OK", dial_status="OK", data_requested=False)))
    fault = {
        "rust-libp2p": Fault(
            "dials the last address",
            both(answered(second), connections(pair[1]), served(asked=pair, tested=pair[1], result="Ok(())")),
            (one_answer, one_connection),
        ),
        "js-libp2p": Fault(
            "dials all addresses, and answers once for each",
            both(answered(first, second), dial_backs(2), connections(*pair), dialed_out(*pair)),
            (one_answer, one_dial_back, one_connection),
        ),
    }.get(peer)
    options = {"listen": pair, "test": pair}
    yield Case(peer, "tap", transport, "dials the first of two, and answers once", options, expected, fault=fault)


# ---- their client, our server ----

DIAL_ERROR = {"status": "OK", "dial_status": "E_DIAL_ERROR", "end": "Answered"}
REFUSED = {"status": "E_DIAL_REFUSED", "end": "Answered"}


def delivered(peer, transport):
    dial_back = "Delivered"
    if peer == "go-libp2p" and transport == "quic":
        # Its reset of the dial-back stream overtakes its acknowledgement.
        dial_back = ("Delivered", "NotDelivered(Reset)")
    return {"status": "OK", "dial_status": "OK", "dial_back": dial_back, "end": "Answered"}


def heard_of_rejection(run):
    return any("E_REQUEST_REJECTED" in e.get("detail", "") for e in run.results())


def rejected(run):
    """How many requests our server has turned away."""
    return sum(e["count"] for e in run.server.all("rejected", limit="Requests"))


def their_client(peer, transport):
    js = peer == "js-libp2p"
    rust = peer == "rust-libp2p"
    go = peer == "go-libp2p"
    DELIVERED = delivered(peer, transport)

    def case(name, listen=(), test=(), expected=(), **more):
        # js asks about what it listens on, and can't be told to ask about anything else.
        options = {"listen": list(listen), "test": list(test), "together": more.pop("together", False)}
        options.update(more.pop("options", {}))
        more["deadline"] = more.get("deadline", SUCCESS) + (RUST_ROUND if rust else 0)
        return Case("ours", peer, transport, name, options, list(expected), **more)

    def says(outcome, *addrs):
        if js:
            return verdicts(outcome, *addrs)
        return results(outcome, *addrs)

    def at_client(*addrs):
        """Where the client tells of its connections."""
        return [("dial-back at the address", came_in(*addrs))] if rust else []

    good = addr(transport, Lab.CLIENT, Lab.OPEN)
    other = addr(transport, Lab.CLIENT_OTHER, Lab.OPEN)
    six = addr(transport, Lab.CLIENT_6, Lab.OPEN)
    # Where js listens, the port is shut by a firewall.
    closed = addr(transport, Lab.CLIENT, Lab.REJECTED[0] if js else 4003)
    dropped = addr(transport, Lab.CLIENT, Lab.BLACKHOLED[0])
    ws = websocket(4004)
    ten = [addr(transport, Lab.CLIENT, port) for port in range(4020, 4030)]

    def failed(name, a, **more):
        # js has no such verdict before eight servers in eight networks failed.
        servers = 8 if js else 1
        error = {"tested": a, "data_requested": 0, "data_received": 0, **DIAL_ERROR}
        return case(
            name,
            listen=[a] if js else [],
            test=[a],
            expected=[
                ("our server says E_DIAL_ERROR", lambda run: all(server.any("served", **error) for server in run.servers)),
                ("their verdict", says("unreachable", a)),
            ],
            server_count=servers,
            spread=js,
            **more,
        )

    silence = SILENCE_JS if js else SILENCE
    yield case(
        "reachable, and no dial data",
        listen=[good],
        test=[good],
        expected=[
            ("our server delivered", served(tested=good, index=0, data_requested=0, **DELIVERED)),
            ("their verdict", says("reachable", good)),
            *at_client(good),
        ],
    )
    if transport == "quic":
        # Nobody says that a port is closed.
        yield failed("closed port", closed, deadline=silence, expected_seconds=20)
    else:
        yield failed("closed port", closed)
    # A dial over TCP that nobody answers outlasts what a second request of the same peer can wait.
    yield failed("blackholed port", dropped, deadline=silence, expected_seconds=20, rejects=True)
    yield case(
        "dial data for another IP",
        listen=[other],
        test=[other],
        expected=[
            (
                "our server was paid, and delivered",
                lambda run: any(30_000 <= e["data_requested"] <= e["data_received"] for e in run.served(tested=other, **DELIVERED)),
            ),
            ("their verdict", says("reachable", other)),
            *at_client(other),
        ],
        expected_seconds=7,
    )
    if rust:
        # It puts one address in each request.
        yield case(
            "several, the first undialable, one a request",
            listen=[good],
            test=[ws, good],
            expected=[
                ("our server refused one", served(asked=[ws], **REFUSED)),
                ("our server delivered", served(asked=[good], tested=good, index=0, **DELIVERED)),
                ("their verdict", says("reachable", good)),
                *at_client(good),
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
        )
    # Each client takes these two for no evidence: go has a word for it, rust asks again in its next round, js is silent.
    again = {"expected_seconds": 12, "deadline": SUCCESS + RUST_ROUND} if rust else {}
    yield case(
        "refused",
        listen=[ws] if js else [],
        test=[ws],
        # js over QUIC asks about the port it dialed from, too.
        server_options={"refuse": True} if js else {},
        expected=[
            ("our server refused", served(index=None, dial_back=None, **REFUSED)),
            *([("their result", says("refused", ws))] if go else []),
            *([("they ask again", lambda run: len(run.served(asked=[ws], **REFUSED)) > 1)] if rust else []),
        ],
        unknowable=js,
        **again,
    )
    yield case(
        "over our limit",
        listen=[good],
        test=[good],
        server_options={"limit": 0},
        expected=[
            ("our server rejected", lambda run: rejected(run) > 0),
            *([("their result", heard_of_rejection)] if go else []),
            *([("they ask again", lambda run: rejected(run) > 1)] if rust else []),
        ],
        unknowable=True,
        rejects=True,
        **again,
    )
    yield case(
        "IPv6",
        listen=[six],
        test=[six],
        ipv6=True,
        expected=[
            ("our server delivered", served(tested=six, index=0, data_requested=0, **DELIVERED)),
            ("their verdict", says("reachable", six)),
            *at_client(six),
        ],
    )
    delivered_ten = (
        "our server delivered ten",
        lambda run: all(run.served(tested=a, index=0, data_requested=0, **DELIVERED) for a in ten),
    )
    if js:
        # It asks once for each connection, and each time about all that is not proven yet.
        yield case(
            "ten probes in a row on ten connections",
            listen=ten,
            options={"connections": 10},
            expected=[delivered_ten, ("their verdicts", says("reachable", *ten))],
            deadline=2 * SUCCESS,
            expected_seconds=8,
        )
    elif not rust:
        yield case(
            TEN_IN_A_ROW,
            listen=ten,
            test=ten,
            expected=[
                delivered_ten,
                ("their verdicts", says("reachable", *ten)),
                ("on one connection", lambda run: len(run.server.all("connected", dialed=False)) == 1),
            ],
        )
    else:
        # It asks about all at once, on as many streams, and in each round again about those that were not served: two are at
        # once.
        yield case(
            "ten probes at once on one connection",
            listen=ten,
            expected=[
                delivered_ten,
                ("their verdicts", says("reachable", *ten)),
                ("on one connection", lambda run: len(run.server.all("connected", dialed=False)) == 1),
                *at_client(*ten),
            ],
            rejects=True,
            deadline=SUCCESS + 9 * RUST_ROUND,
            expected_seconds=50,
        )
    if go:

        def a_majority(run):
            return sum(server.any("served", tested=good, index=0, data_requested=0, **DELIVERED) for server in run.servers) >= 3

        yield case(
            "four servers, a whole host",
            listen=[good],
            options={"full": True},
            server_count=4,
            expected=[("three of our servers delivered", a_majority), ("their verdict", verdicts("reachable", good))],
            expected_seconds=6,
        )


def all_cases(more_peers=()):
    peers = [*PEERS, *more_peers]
    for peer in peers:
        for transport in TRANSPORTS:
            yield from our_client(peer, transport)
    yield from check_tool("go-libp2p")
    for peer in ["ours", *peers]:
        for transport in TRANSPORTS:
            yield from by_hand(peer, transport)
    for peer in peers:
        for transport in TRANSPORTS:
            yield from their_client(peer, transport)
