"""One run of one cell: makes its network, starts the nodes, and judges what the client says."""

import itertools
import json
import sys
import threading
import time
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "interop"))
from matrix import CONTACTED, FILTERED, REACHABLE, UNREACHABLE, multiaddr, parsed  # noqa: E402
from peers import Peer  # noqa: E402
from topology import CLOSING, PORT, PUBLIC, World, call  # noqa: E402

# For a server or client to start, on a busy machine.
START = 60
# Within which a verdict must be there.
DEADLINE = 60
# A node that has just started gets the processor for so long after its first connection, if it has no verdicts before.
BUSY = 3
# By then, from the first connection, the first recheck is over.
RECHECKED = 45
# What must not happen gets this time to happen after the last verdict that was waited for, and so long after a change.
SETTLE = 1.5
SETTLE_CHANGED = 15
# Within which a change must be noticed.
NOTICE = 300
# What was asked before a change may be answered so long after it.
STALE = 15
# Over how long after the first verdicts changes are spread from run to run: the checks of a young node are at most a minute
# apart. Two runs in five have theirs later in the first ten minutes.
SPREAD = 60
SPREAD_LATE = 300
# For how long verdicts must stand when servers have left, and with most servers unable to dial.
STAND = {"servers leave": 120, "10 minutes": 600}

# How often an interface of a messy host comes or goes.
CHURN = 1
# How many requests a messy host may make about what is none of its doors: as many as the budget for ports that one peer saw
# allows at once, and once in 25 minutes.
JUNK = 6 + 1

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
    def __init__(self, cell, programs, number, minimum, gate):
        self.cell = cell
        self.programs = programs
        self.check_nat = number == 0
        # The golden ratio spreads any number of runs evenly; cells begin at different places.
        begin = zlib.crc32(cell.title.encode()) / 2**32
        self.change_after = (number * 0.618 + begin) % 1 * (SPREAD_LATE if number % 5 > 2 else SPREAD)
        self.change_at = None
        # Seconds from the first connection for which to look, whatever is known.
        self.minimum = minimum
        # Held while the processor is needed.
        self.gate = gate
        self.changed = threading.Condition()
        self.world = World(cell)
        self.servers = []
        self.over = threading.Event()
        self.churn_failed = None
        # Servers that were stopped on purpose.
        self.stopped = []
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
            with self.gate:
                self.world.make()
                self.start()
                expected = self.cell.expected()
                self.wait(lambda: self.all_right(expected) or self.client.ended, BUSY)
            result = {"cell": self.cell.title, "client": self.cell.client_program}
            result.update(self.observe())
            return result
        finally:
            self.over.set()
            for peer in [*self.servers, self.client]:
                if peer:
                    peer.stop()
            self.world.remove()

    def kill(self):
        """Ends the nodes at once, from another thread."""
        for peer in [*self.servers, self.client]:
            if peer:
                peer.process.kill()

    def peer(self, program, role, options):
        if CLOSING.is_set():
            raise RuntimeError("the lab is closing")
        return Peer(program, self.world.name(role), [json.dumps(options)], self.changed)

    def start(self):
        cell = self.cell
        # No node may end by itself before the run does.
        seconds = 2 * START + DEADLINE + self.minimum + 60 + (SPREAD_LATE + NOTICE + max(STAND.values()) if cell.change else 0)
        for server in self.world.servers:
            listen = [multiaddr(proto, ip, PORT) for ip in (server.ip, server.ip6) for proto in ("tcp", "udp")]
            options = {"role": "public" if cell.messy else "server", "listen": listen, "seconds": seconds}
            if server.second_ip:
                options["dialer"] = multiaddr("udp", server.second_ip, PORT)
            self.servers.append(self.peer(self.programs["server", cell.server_program], server.role, options))
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
        role = "both" if cell.messy else "client"
        options = {"role": role, "listen": listen, "servers": known, "seconds": seconds, **CLIENTS[cell.client_program]}
        if cell.messy:
            threading.Thread(target=self.churn, daemon=True).start()
        self.client = self.peer(self.programs["client", cell.client_program], "c", options)
        if not self.wait(lambda: self.client.any("connected") or self.client.ended, START) or self.client.ended:
            raise RuntimeError(f"the client did not connect: {self.client.events[-3:]} {self.client.errors[-3:]}")

    def churn(self):
        for turn in itertools.count():
            if self.over.wait(CHURN):
                return
            try:
                self.world.churn(turn)
            except RuntimeError as error:
                # The network is gone, if the run is over.
                if not self.over.is_set():
                    self.churn_failed = error
                return

    def verdict(self, door):
        """The verdict that stands, and from where it was proven."""
        said = self.client.all("verdict", addr=door)
        if not said:
            return "unknown", None
        verdict, vantage = said[-1]["verdict"], said[-1].get("vantage")
        # A later proof can come from elsewhere.
        for probe in self.client.all("probed", addr=door, stands=verdict):
            if probe["at"] >= said[-1]["at"]:
                vantage = probe["stands_from"]
        return verdict, vantage

    def all_right(self, expected):
        return all(is_right(*self.verdict(door), truth) for door, truth in expected.items())

    def observe(self):
        expected = before = self.cell.expected()
        wrong = []
        self.wait(lambda: self.all_right(expected) or self.client.ended, DEADLINE)
        if self.check_nat:
            wrong += self.knocks(expected)
        first, times = self.first_right(), {door: self.time_of(door, truth) for door, truth in expected.items()}
        noticed = forgotten = None
        settle = SETTLE
        if self.cell.change and self.all_right(expected):
            expected, noticed, forgotten = self.change(before)
            if self.change_at:
                settle = SETTLE_CHANGED
        elif self.cell.change:
            wrong.append(f"no {self.cell.change}: the verdicts before were not right")
        elapsed = time.time() - self.client.all("connected")[0]["at"]
        self.wait(lambda: self.client.ended, max(settle, self.minimum - elapsed))
        wrong += self.wrong()
        if self.cell.client_program == "ours":
            wrong += self.wrong_announcements(expected) + self.wrong_vantages(expected)
        if self.cell.messy:
            wrong += self.junk(expected)
        wrong += self.broken()
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
            "forgotten": forgotten,
            "changed_after": self.change_after if self.change_at else None,
            "all": None if None in times.values() else max(times.values()),
            **self.costs(),
        }

    def change(self, before):
        """Changes the network or the servers. The right verdicts from then on, after how long they were there, and after how
        long addresses that are no more were given up.
        """
        cell = self.cell
        if cell.change in STAND:
            if cell.change == "servers leave":
                self.stopped = self.servers[1:]
                for server in self.stopped:
                    server.stop()
            self.wait(lambda: self.client.ended, STAND[cell.change])
            return before, None, None
        self.wait(lambda: self.client.ended, self.change_after)
        self.change_at = time.time()
        if cell.change == "new external IP":
            self.world.change_public_ip()
        else:
            self.world.set_forwarding(cell.after()[0])
        after = cell.expected(*cell.after())
        renumbered = cell.change == "new external IP"
        if not renumbered:
            self.check_network(after)
        dead = [door for door in before if door not in after]
        self.wait(lambda: self.all_right(after) and all(map(self.given_up, dead)) or self.client.ended, NOTICE)
        if renumbered:
            # Only then have packets gone out that a mapping comes from.
            self.check_network(after)
        times = [self.time_of(door, truth, since=self.change_at) for door, truth in after.items()]
        ends = [self.given_up(door) for door in dead]
        noticed = None if None in times else max(times)
        return after, noticed, None if None in ends or not ends else max(0.0, max(ends) - self.change_at)

    def check_network(self, expected):
        """After a change."""
        # Those who were let in before are known to the NAT still: only strangers tell.
        problems = self.knocks(expected, contacted=False) if self.check_nat else []
        if problems:
            raise RuntimeError("; ".join(problems))

    def given_up(self, door):
        """When a door ceased to be called reachable; `None` if it is called so still."""
        said = self.client.all("verdict", addr=door)
        if not said:
            return self.change_at
        if said[-1]["verdict"] != REACHABLE:
            return said[-1]["at"]
        # An address that is dropped altogether has no verdict any more.
        expired = [event["at"] for event in self.client.all("expired", addr=door) if event["at"] >= said[-1]["at"]]
        return expired[0] if expired else None

    def wrong(self):
        """Every verdict that was wrong, even for a moment."""
        found = {}
        # What stands may be out of date when a probe comes in, but not the claim that strangers get in.
        stands = [
            {**e, "verdict": REACHABLE, "vantage": "independent"}
            for e in self.client.all("probed", stands=REACHABLE, stands_from="independent")
            if all(self.cell.truth(e["addr"], *state) == CONTACTED for state in self.states(e["at"]))
        ]
        for event in [*self.client.all("verdict"), *stands]:
            kinds = [self.judge(event, *state) for state in self.states(event["at"])]
            if kinds and all(kinds):
                # Once for each: what stands is repeated with each probe.
                found.setdefault((event["addr"], event["verdict"], event.get("vantage")), kinds[-1])
        if self.change_at:
            for door in self.cell.doors():
                if door not in self.cell.expected(*self.cell.after()) and self.given_up(door) is None:
                    found.setdefault(door, f"+ {door} reachable still, {time.time() - self.change_at:.0f} s after the node lost it")
        return list(found.values())

    def wrong_announcements(self, expected):
        """Addresses that the swarm was told to be external and are not, at any time, and those that were missing at the end."""
        wrong, announced = [], set()
        for event in list(self.client.events):
            if event["event"] not in ("confirmed", "expired"):
                continue
            addr = event["addr"]
            if event["event"] == "expired":
                announced.discard(addr)
                continue
            announced.add(addr)
            if not any(self.cell.truth(addr, *state) in (REACHABLE, CONTACTED) for state in self.states(event["at"])):
                wrong.append(f"+ {addr} confirmed at {event['t']:.2f} s, is {self.cell.truth(addr, *self.states(event['at'])[-1])}")
        state = self.states(time.time())[-1]
        for addr in sorted(announced | set(expected)):
            truth = self.cell.truth(addr, *state)
            if addr in announced and truth not in (REACHABLE, CONTACTED):
                wrong.append(f"+ {addr} is confirmed at the end, is {truth}")
            # Where nobody could tell more, the verdict decides.
            if addr not in announced and (truth == REACHABLE or truth == CONTACTED and self.verdict(addr)[0] == REACHABLE):
                wrong.append(f"- {addr} is not confirmed at the end, is {truth}")
        return wrong

    def wrong_vantages(self, expected):
        """Doors that were proven from an IP that the client had not contacted, and are not said to be."""
        if self.change_at:
            return []
        wrong = []
        dialers = [server for server, kind in zip(self.servers, self.cell.servers) if kind in ("multihomed", "over IPv6")]
        reachable = [door for door, truth in expected.items() if truth == REACHABLE]
        # Three agreeing servers are enough at first. The recheck asks others, if there are any.
        asked = len(self.servers) - len(dialers) <= 3 and self.minimum >= RECHECKED
        if dialers and reachable and asked and not any(self.verdict(door)[1] == "independent" for door in reachable):
            wrong.append("no door is said to be open to strangers, and there are servers that dial as such")
        # One that dials over another transport too is a contacted one from then on.
        elsewhere = dialers if len(self.cell.protos) == 1 else []
        for door in reachable:
            proven = any(probe["vantage"] == "independent" for probe in self.client.all("probed", addr=door))
            proven |= any(e["dial_back"] == "Delivered" and e["tested"] == door for s in elsewhere for e in s.all("served"))
            vantage = self.verdict(door)[1]
            if proven and vantage != "independent":
                wrong.append(f"{door} was proven from an IP that was not contacted, and the vantage is {vantage}")
        return wrong

    def junk(self, expected):
        """What a messy host asked about that nobody could want to know, or too often."""
        others = [probe["addr"] for probe in self.client.all("probed") if probe["addr"] not in expected]
        wrong = [f"{addr} was asked about" for addr in sorted(set(others)) if parsed(addr) is None or parsed(addr)[1] != PUBLIC]
        if self.churn_failed:
            wrong.append(f"the interfaces did not come and go: {self.churn_failed}")
        if len(others) > JUNK:
            wrong.append(f"{len(others)} requests about other addresses: {sorted(set(others))}")
        return wrong

    def broken(self):
        """Nodes that ended, or that survived a panic."""
        wrong = []
        for name, peer in [("the client", self.client), *((f"server {i}", s) for i, s in enumerate(self.servers) if s not in self.stopped)]:
            panics = [line for line in peer.errors if "panicked at" in line]
            if peer.ended or panics:
                wrong.append(f"{name} {'ended' if peer.ended else 'panicked'}: {panics[:3] or peer.errors[-3:]}")
        return wrong

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
                # Again, should a packet have been lost, or the machine be busy.
                times = 8 if should or self.cell.loss else 2
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
