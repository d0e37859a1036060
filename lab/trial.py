"""One run of one cell: makes its network, starts the nodes, and judges what the client says."""

import json
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "interop"))
from matrix import CONTACTED, FILTERED, REACHABLE, UNREACHABLE, multiaddr, parsed  # noqa: E402
from peers import Peer  # noqa: E402
from topology import PORT, PUBLIC, World, call  # noqa: E402

# For a server or client to start, on a busy machine.
START = 20
# Within which a verdict must be there.
DEADLINE = 60
# What must not happen gets this time to happen after the last verdict that was waited for.
SETTLE = 1.5
# Within which a change must be noticed.
NOTICE = 300
# What was asked before a change may be answered so long after it.
STALE = 15
# Over how long after the first verdicts changes are spread from run to run: the checks of a young node are at most this far
# apart.
SPREAD = 60
# For how long verdicts must stand when servers have left, and with most servers unable to dial.
STAND = {"servers leave": 120, "10 minutes": 600}

# The clients that are compared, and what their programs need to be told.
CLIENTS = {"ours": {}, "libp2p-autonat": {"role": "foreign-client"}, "go-libp2p": {"lab": True}}


def is_right(verdict, vantage, truth):
    if truth == CONTACTED:
        return verdict == REACHABLE and vantage == "contacted" or verdict == FILTERED
    # Strangers don't get in: those who know no such distinction may say that nobody does.
    return verdict == truth or (verdict, truth) == (UNREACHABLE, FILTERED)


def is_wrong(verdict, vantage, truth):
    """Whether a verdict is a false positive ("+") or a false negative ("-")."""
    if verdict == "unknown" or is_right(verdict, vantage, truth):
        return None
    if verdict == REACHABLE:
        return "+"
    return "-" if truth in (REACHABLE, CONTACTED) else "~"


class Trial:
    def __init__(self, cell, programs, number, settle=SETTLE, deadline=DEADLINE, minimum=0):
        self.cell = cell
        self.programs = programs
        self.check_nat = number == 0
        # The golden ratio spreads any number of runs evenly.
        self.change_after = (number * 0.618 + 0.1) % 1 * SPREAD
        self.change_at = None
        self.settle = settle
        self.deadline = deadline
        # For how long to look, whatever is known: so that costs can be compared.
        self.minimum = minimum
        self.changed = threading.Condition()
        self.world = World(cell)
        self.servers = []
        self.client = None

    def wait(self, done, seconds):
        deadline = time.monotonic() + seconds
        with self.changed:
            while not done():
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self.changed.wait(left)
            return True

    def run(self):
        try:
            self.world.make()
            self.start()
            result = {"cell": self.cell.title, "client": self.cell.client_program}
            result.update(self.observe())
            return result
        finally:
            for peer in [*self.servers, self.client]:
                if peer:
                    peer.stop()
            self.world.remove()

    def start(self):
        cell = self.cell
        seconds = int(self.deadline + self.settle + 2 * START) + (900 if cell.change else 0)
        for server in self.world.servers:
            listen = [multiaddr(proto, ip, PORT) for ip in (server.ip, server.ip6) for proto in ("tcp", "udp")]
            options = {"role": "server", "listen": listen, "seconds": seconds}
            if server.second_ip:
                options["dialer"] = multiaddr("udp", server.second_ip, PORT)
            namespace = self.world.name(server.role)
            self.servers.append(Peer(self.programs["server", cell.server_program], namespace, [json.dumps(options)], self.changed))
        if not self.wait(lambda: all(s.any("ready") or s.ended for s in self.servers), START):
            raise RuntimeError("the servers did not start")
        if any(s.ended for s in self.servers):
            raise RuntimeError(f"a server ended: {[s.events[-1:] + s.errors[-3:] for s in self.servers if s.ended]}")
        ids = [peer.all("ready")[0]["id"] for peer in self.servers]
        known = []
        for number, (server, identity) in enumerate(zip(self.world.servers, ids)):
            proto, family = cell.known_over(number)
            known.append(f"{multiaddr(proto, server.ip6 if family == 6 else server.ip, PORT)}/p2p/{identity}")
        listen = []
        if not cell.only_ipv6:
            listen += [multiaddr(proto, "0.0.0.0", PORT) for proto in cell.protos]
        if cell.only_ipv6 or cell.listens_on_ipv6:
            listen += [multiaddr(proto, "::", PORT) for proto in cell.protos]
        options = {"role": "client", "listen": listen, "servers": known, "seconds": seconds, **CLIENTS[cell.client_program]}
        self.client = Peer(self.programs["client", cell.client_program], self.world.name("c"), [json.dumps(options)], self.changed)
        if not self.wait(lambda: self.client.any("connected") or self.client.ended, START) or self.client.ended:
            raise RuntimeError(f"the client did not connect: {self.client.events[-3:]} {self.client.errors[-3:]}")

    def verdict(self, door):
        said = self.client.all("verdict", addr=door)
        return (said[-1]["verdict"], said[-1].get("vantage")) if said else ("unknown", None)

    def all_right(self, expected):
        return all(is_right(*self.verdict(door), truth) for door, truth in expected.items())

    def observe(self):
        expected = before = self.cell.expected()
        wrong = []
        self.wait(lambda: self.all_right(expected) or self.client.ended, self.deadline)
        if self.check_nat:
            wrong += self.knocks(expected)
        first, times = self.first_right(), {door: self.time_of(door, truth) for door, truth in expected.items()}
        noticed = None
        if self.cell.change and self.all_right(expected):
            expected, noticed = self.change(before)
        elapsed = time.time() - self.client.all("connected")[0]["at"]
        self.wait(lambda: self.client.ended, max(self.settle, self.minimum - elapsed))
        wrong += self.wrong()
        if self.client.ended:
            wrong.append(f"the client ended: {self.client.errors[-3:]}")
        missing = [door for door, truth in expected.items() if not is_right(*self.verdict(door), truth)]
        return {
            "right": not wrong and not missing,
            "wrong": wrong,
            "missing": missing,
            "expected": expected,
            "verdicts": {door: self.verdict(door) for door in expected},
            "times": times,
            "first": first,
            "noticed": noticed,
            "changed_after": self.change_after if self.change_at else None,
            "all": None if None in times.values() else max(times.values()),
            **self.costs(),
        }

    def change(self, before):
        """Changes the network or the servers. The right verdicts from then on, and after how long they were there."""
        cell = self.cell
        if cell.change in STAND:
            if cell.change == "servers leave":
                for server in self.servers[1:]:
                    server.stop()
            self.wait(lambda: self.client.ended, STAND[cell.change])
            return before, None
        self.wait(lambda: self.client.ended, self.change_after)
        self.change_at = time.time()
        if cell.change == "new external IP":
            self.world.change_public_ip()
        else:
            self.world.set_forwarding(cell.after()[0])
        after = cell.expected(*cell.after())
        if self.check_nat:
            # Those who were let in before are known to the NAT still: only strangers tell.
            problems = self.knocks(after, contacted=False)
            if problems:
                raise RuntimeError("; ".join(problems))
        self.wait(lambda: self.all_right(after) or self.client.ended, NOTICE)
        times = [self.time_of(door, truth, since=self.change_at) for door, truth in after.items()]
        return after, None if None in times else max(times)

    def wrong(self):
        """Every verdict that was wrong, even for a moment."""
        found = []
        for event in self.client.all("verdict"):
            kinds = [self.judge(event, *state) for state in self.states(event["at"])]
            if kinds and all(kinds):
                found.append(kinds[-1])
        return found

    def states(self, at):
        """What could be said of the network at that time: to which ports it led, and its IP."""
        if self.change_at is None or at < self.change_at:
            return [(None, PUBLIC)]
        return [(None, PUBLIC), self.cell.after()] if at < self.change_at + STALE else [self.cell.after()]

    def judge(self, event, forwards, ip):
        truth = self.cell.truth(event["addr"], forwards, ip)
        kind = is_wrong(event["verdict"], event.get("vantage"), truth)
        if kind is None:
            return None
        return f"{kind} {event['addr']} {event['verdict']} ({event.get('vantage')}) at {event['t']:.2f} s, is {truth}"

    def time_of(self, door, truth, since=None):
        """To the first right verdict from the first connection, or from `since` on; that may have been right all along."""
        said = self.client.all("verdict", addr=door)
        for i, event in enumerate(said):
            if not is_right(event["verdict"], event.get("vantage"), truth):
                continue
            if since is None:
                return event["t"]
            if i + 1 == len(said) or said[i + 1]["at"] > since:
                return max(0.0, event["at"] - since)
        return None

    def first_right(self):
        """From the first connection to the first right verdict that says whether the node is public."""
        wanted = (REACHABLE, CONTACTED) if self.cell.is_public else (UNREACHABLE, FILTERED)
        for event in self.client.all("verdict"):
            truth = self.cell.truth(event["addr"])
            if truth in wanted and is_right(event["verdict"], event.get("vantage"), truth):
                return event["t"]
        return None

    def costs(self):
        served = [e for server in self.servers for e in server.all("served")]
        return {
            "probes": len(served),
            "dial_data": sum(e.get("data", 0) for e in served),
            "traffic": self.world.traffic(),
        }

    def knocks(self, expected, contacted=True):
        """Whether the network is what it is said to be: strangers and contacted servers knock at each door."""
        wrong = []
        for door, truth in expected.items():
            proto, ip, port = parsed(door)
            family = 6 if ":" in ip else 4
            met = [i for i, kind in enumerate(self.cell.servers) if kind == "plain" and self.cell.known_over(i) == (proto, family)]
            knockers = [("a stranger", "x", truth == REACHABLE)]
            if met and contacted:
                knockers.append(("a contacted server", f"s{met[0]}", truth in (REACHABLE, CONTACTED, FILTERED)))
            for who, role, should in knockers:
                # Again, should a packet have been lost.
                times = 8 if self.cell.loss else 2
                command = [sys.executable, str(HERE / "knock.py"), proto, ip, str(port), str(times)]
                said = call("ip", "netns", "exec", self.world.name(role), *command)
                if (said.strip() == "true") != should:
                    wrong.append(f"network: {who} {'does not get' if should else 'gets'} in at {door}")
        return wrong

    def log(self):
        lines = []
        for name, peer in [("client", self.client), *((f"server {i}", s) for i, s in enumerate(self.servers))]:
            if peer:
                lines += [f"    {name}: {json.dumps(e)}" for e in peer.events[-60:]]
                lines += [f"    {name} stderr: {line}" for line in peer.errors[-10:]]
        return "\n".join(lines)
