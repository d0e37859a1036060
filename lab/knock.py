"""Knocks at a port from inside a namespace, to check that a NAT maps and filters as its name says.

    knock.py tcp|udp IP PORT TIMES

Prints `true` if someone answers, `false` if not. Over UDP it sends a QUIC packet of a version that does
not exist, which every QUIC server answers (RFC 9000, section 6.1).
"""

import socket
import sys

PATIENCE = 0.7
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
    proto, ip, port, times = sys.argv[1:]
    print("true" if any(knock(proto, ip, int(port)) for _ in range(int(times))) else "false")
