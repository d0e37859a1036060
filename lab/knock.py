"""Knocks at ports from inside a namespace, to check that a NAT maps and filters as its name says.

    knock.py udp 81.2.69.160 4001 tcp 81.2.69.160 4001 …

Prints a JSON list, `true` for each port where someone answers. Over UDP it sends a QUIC packet of a version that does
not exist, which every QUIC server answers (RFC 9000, section 6.1).
"""

import json
import socket
import sys

PATIENCE = 1.0
PACKET = bytes([0xC0, 0x1A, 0x2A, 0x3A, 0x4A, 8, *range(8), 8, *range(8)]).ljust(1200, b"\0")


def knock(proto, ip, port):
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    kind = socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as door:
        door.settimeout(PATIENCE)
        try:
            door.connect((ip, port))
            if proto == "udp":
                door.send(PACKET)
                return len(door.recv(2048)) > 0
            return True
        except OSError:
            return False


if __name__ == "__main__":
    doors = zip(*[iter(sys.argv[1:])] * 3)
    print(json.dumps([knock(proto, ip, int(port)) or knock(proto, ip, int(port)) for proto, ip, port in doors]))
