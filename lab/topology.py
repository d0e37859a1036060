"""The networks: hosts and NATs as network namespaces, joined by veth pairs through one router, the "Internet".

The addresses look public inside, and nothing is routed outside: the namespaces are joined with each other only.
"""

import itertools
import json
import os
import re
import subprocess
import threading
from dataclasses import dataclass

PREFIX = "anv2lab"
# The client listens here, and a forwarded port leads here.
PORT = 4001
# Where a NAT that does not preserve ports maps it to.
REMAPPED = 34567

PUBLIC = "81.2.69.160"
# After the external IP has changed.
PUBLIC_NEW = "81.3.70.161"
CLIENT_6 = "2a02:8:0:1::2"
GATEWAY_6 = "2a02:8:0:1::1"
NETWORK_6 = "2a02:8:0:1::/64"
# Someone whom the client never meets.
STRANGER = "99.7.7.7"
STRANGER_6 = "2a09:7::7"
# The router's address on every link.
ROUTER = "169.254.1.1"
# The link-layer addresses of both ends of a link: the one towards the Internet, and the other.
OUTER_END, INNER_END = "02:00:00:00:00:01", "02:00:00:00:00:02"

# Of a messy host.
INTERFACES = 40

SERIAL = itertools.count()
# Held where namespaces are made, so that none is made once all are being removed.
MAKING = threading.Lock()
CLOSING = threading.Event()


def call(*command, given=None):
    done = subprocess.run(command, input=given, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout.strip()} {given or ''}")
    return done.stdout


def namespaces():
    # Where `ip netns` keeps them. Its own list fails while another run removes some.
    return os.listdir("/run/netns") if os.path.isdir("/run/netns") else []


def remove_leftovers():
    """Removes the namespaces of runs that were killed."""
    made = ((name, re.fullmatch(rf"{PREFIX}-(\d+)-\d+-\w+", name)) for name in namespaces())
    delete([name for name, found in made if found and not os.path.exists(f"/proc/{found[1]}")])


def remove_own():
    """Removes what this run has made and not removed. From then on nothing can be made."""
    with MAKING:
        CLOSING.set()
    delete([name for name in namespaces() if name.startswith(f"{PREFIX}-{os.getpid()}-")])


def delete(names):
    subprocess.run(["ip", "-force", "-batch", "-"], input="".join(f"netns del {name}\n" for name in names), text=True, capture_output=True)


@dataclass(frozen=True)
class Nat:
    """A NAT in the terms of RFC 4787, sections 4 and 5, for UDP, and RFC 5382 for TCP."""

    # Endpoint-independent mapping: the same external port towards everybody.
    independent_mapping: bool
    # Who gets in at a mapped port: anybody, "address" or "port" for those contacted.
    filtering: str
    # Whether the external port is the internal one.
    preserves_ports: bool = True


NATS = {
    "full cone": Nat(True, "anybody"),
    "address-restricted": Nat(True, "address"),
    "port-restricted": Nat(True, "port"),
    "symmetric": Nat(False, "port"),
    "full cone, other ports": Nat(True, "anybody", False),
    "address-restricted, other ports": Nat(True, "address", False),
    "port-restricted, other ports": Nat(True, "port", False),
}


def nat_rules(nat, host, forwards, silent, blocks_tcp, pinhole):
    """The rules of a NAT with `host` on its inside.

    conntrack has endpoint-dependent filtering by itself. For the wider kinds, a set remembers which ports were mapped,
    and whom they have sent to, and lets in new connections by it.
    """
    refuse = "drop" if silent else f"meta l4proto tcp reject with tcp reset\n        iifname wan reject"
    masquerade = "masquerade" if nat.independent_mapping else "masquerade fully-random"
    outward = [f"oifname wan {masquerade}"]
    inward = f"dnat to {host}"
    if not nat.preserves_ports:
        outward = [
            *(f"oifname wan ip saddr {host} {proto} sport {PORT} masquerade to :{REMAPPED}" for proto in ("tcp", "udp")),
            "oifname wan meta l4proto { tcp, udp } masquerade to :40000-60000",
            "oifname wan masquerade",
        ]
        inward = f"th dport {REMAPPED} dnat to {host}:{PORT}"
    let_in = {
        "anybody": f"iifname wan meta l4proto {{ tcp, udp }} meta l4proto . th dport @mapped {inward}",
        "address": f"iifname wan meta l4proto {{ tcp, udp }} meta l4proto . th dport . ip saddr @contacted {inward}",
        "port": "",
    }[nat.filtering]
    blocked = "iifname lan meta l4proto tcp ct direction original ct state new drop" if blocks_tcp else ""
    return f"""
table ip nat {{
    set mapped {{ type inet_proto . inet_service; size 65535; flags dynamic,timeout; timeout 10m; }}
    set contacted {{ type inet_proto . inet_service . ipv4_addr; size 65535; flags dynamic,timeout; timeout 10m; }}
    chain forwards {{
        {lines(forward_rules(host, forwards))}
    }}
    chain prerouting {{
        type nat hook prerouting priority dstnat;
        iifname wan jump forwards
        {let_in}
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat;
        {lines(outward)}
    }}
    chain mapped_ports {{
        type filter hook postrouting priority srcnat + 10;
        iifname lan oifname wan meta l4proto {{ tcp, udp }} update @mapped {{ meta l4proto . th sport }}
        iifname lan oifname wan meta l4proto {{ tcp, udp }} update @contacted {{ meta l4proto . th sport . ip daddr }}
    }}
    chain forward {{
        type filter hook forward priority 0;
        {blocked}
        iifname wan ct state new ct status & dnat != dnat drop
    }}
    chain input {{
        type filter hook input priority 0;
        iifname wan ct state established,related accept
        iifname wan ip protocol icmp accept
        iifname wan {refuse}
    }}
}}
{firewall_rules(silent, pinhole)}"""


def lines(rules):
    return "\n        ".join(rules)


def forward_rules(host, protos):
    return [f"{proto} dport {PORT} dnat to {host}:{PORT}" for proto in protos]


def firewall_rules(silent, pinhole):
    """A stateful firewall for what is behind, over IPv6."""
    return f"""
table ip6 firewall {{
    chain pinholes {{
        {f"tcp dport {PORT} accept" if pinhole else ""}
        {f"udp dport {PORT} accept" if pinhole else ""}
    }}
    chain forward {{
        type filter hook forward priority 0;
        iifname lan accept
        ct state established,related accept
        meta l4proto ipv6-icmp accept
        jump pinholes
        {"" if silent else "meta l4proto tcp reject with tcp reset"}
        {"" if silent else "reject"}
        drop
    }}
}}"""


HOST_FIREWALL = """
table inet firewall {{
    chain input {{
        type filter hook input priority 0;
        iifname lo accept
        ct state established,related accept
        meta l4proto {{ icmp, ipv6-icmp }} accept
        {refuse}
    }}
}}"""

CANNOT_DIAL = """
table inet egress {
    chain output {
        type filter hook output priority 0;
        oifname eth0 meta l4proto { tcp, udp } ct state new drop
    }
}"""


class Server:
    """Where a server lives and how it behaves."""

    def __init__(self, number, kind):
        self.kind = kind
        self.role = f"s{number}"
        # Each in a neighbourhood of its own.
        self.ip = f"45.{10 + number}.0.1"
        self.ip6 = f"2a01:{10 + number}::1"
        # From where a multihomed one dials.
        self.second_ip = f"185.{10 + number}.0.1" if kind == "multihomed" else None
        self.second_ip6 = f"2a03:{10 + number}::1" if kind == "multihomed" else None


class World:
    """The network of one run."""

    def __init__(self, cell):
        self.cell = cell
        self.number = next(SERIAL)
        self.made = []
        self.servers = [Server(i, kind) for i, kind in enumerate(cell.servers)]

    def name(self, role):
        return f"{PREFIX}-{os.getpid()}-{self.number}-{role}"

    def make(self):
        cell = self.cell
        self._namespace("w")
        self._write("w", {"net/ipv4/ip_forward": 1, "net/ipv6/conf/all/forwarding": 1})
        for server in self.servers:
            self._attach(server.role, [ip for ip in (server.ip, server.second_ip) if ip], [ip for ip in (server.ip6, server.second_ip6) if ip])
            if server.second_ip:
                # What it starts itself comes from the second IP, over TCP too.
                self._ip(server.role, f"route replace default via {ROUTER} dev eth0 onlink src {server.second_ip}\n"
                         f"-6 route replace default via fe80::1 dev eth0 src {server.second_ip6}")
            if server.kind == "cannot dial":
                self.nft(server.role, CANNOT_DIAL)
        self._attach("x", [STRANGER], [STRANGER_6])
        if cell.loss:
            self.nft("w", f"table inet loss {{ chain forward {{ type filter hook forward priority 0; numgen random mod 100 < {cell.loss} drop\n }}\n }}")
        self._attach_client()
        if cell.messy:
            self._ip("c", "".join(self._interface(number) for number in range(INTERFACES)))

    def _attach_client(self):
        cell = self.cell
        if not cell.boxes:
            self._attach("c", [PUBLIC], [CLIENT_6] if cell.ipv6 else [])
            if cell.host_firewall:
                refuse = "drop" if cell.silent else "meta l4proto tcp reject with tcp reset\n reject"
                self.nft("c", HOST_FIREWALL.format(refuse=refuse))
            return
        self._boxes(cell.boxes)

    def _boxes(self, boxes):
        """NATs in a row, the outermost last, and the client behind the first."""
        ipv4 = not self.cell.only_ipv6
        for level in reversed(range(len(boxes))):
            role = f"n{level}"
            outer = level == len(boxes) - 1
            if outer:
                self._attach(role, [PUBLIC] if ipv4 else [], [], interface="wan")
                self._neighbours("w", role, [PUBLIC_NEW], INNER_END)
                if self.cell.ipv6:
                    self._ip("w", f"-6 route add {NETWORK_6} via fe80::2 dev {role}")
            else:
                self._namespace(role)
                self._join(f"n{level + 1}", "lan", role, "wan", ["100.64.0.1"], ["100.64.0.2"])
                self._ip(role, f"addr add 100.64.0.2/24 dev wan\nroute add default via 100.64.0.1 dev wan")
            self._write(role, {"net/ipv4/ip_forward": 1, "net/ipv6/conf/all/forwarding": 1})
        inside = []
        for level, box in enumerate(boxes):
            role = f"n{level}"
            if level == 0:
                self._namespace("c")
                self._join(role, "lan", "c", "eth0", ["192.168.1.1", GATEWAY_6], ["192.168.1.2", CLIENT_6])
                if ipv4:
                    self._ip("c", "addr add 192.168.1.2/24 dev eth0")
                    self._ip(role, "addr add 192.168.1.1/24 dev lan")
                    self._ip("c", "route add default via 192.168.1.1 dev eth0")
                if self.cell.ipv6:
                    self._ip(role, f"-6 addr add {GATEWAY_6}/64 dev lan nodad\n-6 addr add fe80::1/64 dev lan nodad")
                    self._ip("c", f"-6 addr add {CLIENT_6}/64 dev eth0 nodad\n-6 addr add fe80::2/64 dev eth0 nodad\n-6 route add default via {GATEWAY_6} dev eth0")
                inside.append("192.168.1.2")
            else:
                self._ip(role, "addr add 100.64.0.1/24 dev lan")
                inside.append("100.64.0.2")
            if ipv4:
                rules = nat_rules(NATS[box.nat], inside[level], box.forwards, self.cell.silent, self.cell.blocks_tcp, self.cell.pinhole)
            else:
                rules = firewall_rules(self.cell.silent, self.cell.pinhole)
            self.nft(role, rules)

    @staticmethod
    def _interface(number):
        """As a container's network makes one on its host."""
        return f"link add br{number} type veth peer name peer{number}\nlink set peer{number} up\nlink set br{number} up\naddr add 172.18.{number}.1/24 dev br{number}\n"

    def churn(self, turn):
        """One of the client's interfaces goes, and comes back with the next turn."""
        number = turn // 2 % INTERFACES
        self._ip("c", f"link del br{number}\n" if turn % 2 == 0 else self._interface(number))

    def set_forwarding(self, protos):
        """On the outermost box, as UPnP or a person would."""
        host = "192.168.1.2" if len(self.cell.boxes) == 1 else "100.64.0.2"
        rules = ["flush chain ip nat forwards", *(f"add rule ip nat forwards {rule}" for rule in forward_rules(host, protos))]
        self.nft(f"n{len(self.cell.boxes) - 1}", "\n".join(rules) + "\n")

    def change_public_ip(self):
        """The provider hands out another IP; the NAT forgets its mappings, as `masquerade` does when an address goes.

        What is sent to the old IP vanishes, or the router answers that it knows no way there.
        """
        role = f"n{len(self.cell.boxes) - 1}"
        gone = f"\nroute add blackhole {PUBLIC}/32" if self.cell.silent else ""
        self._ip("w", f"route add {PUBLIC_NEW}/32 dev {role}\nroute del {PUBLIC}/32 dev {role}{gone}")
        self.nft(role, "flush set ip nat mapped\nflush set ip nat contacted\n")
        self._ip(role, f"addr add {PUBLIC_NEW}/32 dev wan\naddr del {PUBLIC}/32 dev wan\nroute replace default via {ROUTER} dev wan onlink")

    def traffic(self):
        """Bytes that the client has sent and received, by its interface."""
        link = json.loads(call("ip", "-n", self.name("c"), "-s", "-j", "link", "show", "eth0"))[0]
        return link["stats64"]["rx"]["bytes"] + link["stats64"]["tx"]["bytes"]

    def nft(self, role, rules):
        call("ip", "netns", "exec", self.name(role), "nft", "-f", "-", given=rules)

    def remove(self):
        delete([self.name(role) for role in self.made])
        self.made = []

    def _namespace(self, role):
        with MAKING:
            if CLOSING.is_set():
                raise RuntimeError("the lab is closing")
            call("ip", "netns", "add", self.name(role))
            self.made.append(role)
        self._ip(role, "link set lo up")

    def _attach(self, role, ips, ips6, interface="eth0"):
        """A host on a link of its own to the router."""
        self._namespace(role)
        self._join("w", role, role, interface, [ROUTER], [*ips, *ips6])
        self._ip("w", f"addr add {ROUTER}/32 dev {role}\n-6 addr add fe80::1/64 dev {role} nodad\n"
                 + "".join(f"route add {ip}/32 dev {role}\n" for ip in ips)
                 + "".join(f"-6 route add {ip}/128 dev {role}\n" for ip in ips6))
        self._ip(role, "".join(f"addr add {ip}/32 dev {interface}\n" for ip in ips)
                 + "".join(f"-6 addr add {ip}/128 dev {interface} nodad\n" for ip in ips6)
                 + f"-6 addr add fe80::2/64 dev {interface} nodad\n"
                 + (f"route add default via {ROUTER} dev {interface} onlink\n" if ips else "")
                 + f"-6 route add default via fe80::1 dev {interface}\n")

    def _join(self, role, interface, other, other_interface, ips, other_ips):
        """Joins two by a link: the one towards the Internet has `ips` on it, the other one `other_ips`."""
        call("ip", "link", "add", interface, "netns", self.name(role), "address", OUTER_END, "type", "veth",
             "peer", "name", other_interface, "netns", self.name(other), "address", INNER_END)
        for end, device in ((role, interface), (other, other_interface)):
            # No automatic link-local addresses: those that are given suffice.
            self._ip(end, f"link set {device} addrgenmode none\nlink set {device} up")
        self._neighbours(role, interface, [*other_ips, "fe80::2"], INNER_END)
        self._neighbours(other, other_interface, [*ips, "fe80::1"], OUTER_END)

    def _neighbours(self, role, interface, ips, lladdr):
        # Learned ones count towards the machine's limit of 1,024 in all namespaces together, above which packets are lost.
        self._ip(role, "".join(
            f"{'-6 ' if ':' in ip else ''}neigh replace {ip} lladdr {lladdr} dev {interface} nud permanent\n" for ip in ips
        ))

    def _ip(self, role, commands):
        # `ip -batch` knows no family per line.
        four = "\n".join(line for line in commands.splitlines() if not line.startswith("-6 "))
        six = "\n".join(line[3:] for line in commands.splitlines() if line.startswith("-6 "))
        for family, lines in (([], four), (["-6"], six)):
            if lines.strip():
                call("ip", "-n", self.name(role), *family, "-batch", "-", given=lines)

    def _write(self, role, values):
        script = "; ".join(f"echo {value} > /proc/sys/{key}" for key, value in values.items())
        call("ip", "netns", "exec", self.name(role), "sh", "-c", script)
