"""Network namespaces in pairs: one for the servers, one for the client, joined and cut off from all else.

The addresses look public, so that no peer has to be told to test private ones.
"""

import os
import re
import subprocess

PREFIX = "anv2"


def ip(*args, check=True):
    subprocess.run(["ip", *args], check=check, capture_output=not check)


def remove_leftovers():
    """Removes the namespaces of runs that were killed."""
    # Where `ip netns` keeps them. Its own list fails while another run removes some.
    for name in os.listdir("/run/netns") if os.path.isdir("/run/netns") else []:
        found = re.fullmatch(rf"{PREFIX}-(\d+)-\d+-[sc]", name)
        if found and not os.path.exists(f"/proc/{found[1]}"):
            ip("netns", "del", name, check=False)


class Lab:
    SERVER = "20.1.0.1"
    # Each in another /8, as js wants them.
    SERVERS = [f"{first}.1.0.1" for first in range(20, 28)]
    NOBODY = "20.1.0.9"
    # Connections come from the first one. Addresses on the second one cost dial data.
    # On another /24, as the IPv6 address is on another /56: ours does not ask servers on an address's own network about it.
    CLIENT = "30.2.0.2"
    CLIENT_OTHER = "30.2.0.3"
    SERVER_6 = "2a01:4f8:1::1"
    CLIENT_6 = "2a01:4f8:2::2"
    # The client's ports. Others are closed.
    OPEN = 4002
    BLACKHOLED = range(4100, 4110)
    REJECTED = range(4110, 4120)

    def __init__(self, number):
        self.server = f"{PREFIX}-{os.getpid()}-{number}-s"
        self.client = f"{PREFIX}-{os.getpid()}-{number}-c"

    def make(self):
        for namespace in (self.server, self.client):
            ip("netns", "add", namespace)
            ip("-n", namespace, "link", "set", "lo", "up")
        ip("link", "add", "veth0", "netns", self.server, "type", "veth", "peer", "name", "veth0", "netns", self.client)
        for namespace, addrs in (
            (self.server, [f"{self.SERVER}/24", *(f"{ip}/32" for ip in self.SERVERS[1:]), f"{self.SERVER_6}/32"]),
            (self.client, [f"{self.CLIENT}/24", f"{self.CLIENT_OTHER}/24", f"{self.CLIENT_6}/32"]),
        ):
            ip("-n", namespace, "link", "set", "veth0", "up")
            for addr in addrs:
                nodad = ["nodad"] if ":" in addr else []
                ip("-n", namespace, "addr", "add", addr, "dev", "veth0", *nodad)
        for server in (*self.SERVERS, self.NOBODY):
            ip("-n", self.client, "route", "add", server, "dev", "veth0", "src", self.CLIENT)
        for client in (self.CLIENT, self.CLIENT_OTHER):
            ip("-n", self.server, "route", "add", client, "dev", "veth0", "src", self.SERVER)
        drop = f"{self.BLACKHOLED.start}-{self.BLACKHOLED.stop - 1}"
        reject = f"{self.REJECTED.start}-{self.REJECTED.stop - 1}"
        rules = f"""
        table inet interop {{
            chain input {{
                type filter hook input priority 0; policy accept;
                ct state established accept
                tcp dport {drop} drop
                udp dport {drop} drop
                tcp dport {reject} reject with tcp reset
                udp dport {reject} reject with icmpx type port-unreachable
            }}
        }}"""
        subprocess.run(
            ["ip", "netns", "exec", self.client, "nft", "-f", "-"], input=rules, text=True, check=True
        )

    def remove(self):
        for namespace in (self.server, self.client):
            ip("netns", "del", namespace, check=False)
