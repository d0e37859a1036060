"""Which nim-libp2p a peer is. It can't be had from a registry: `interop/run --nim` takes one that was built elsewhere."""

import re

NIM = "nim-libp2p"
# The first version that has the nonce as the specification has it, and that tells a failed dial from a refused one.
MENDED = (2, 1, 0)


def named(version):
    """The peer's name, by what it says of its version: that of an old one has its number."""
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", version)
    if not found:
        raise ValueError(f"no version number: {version}")
    return NIM if tuple(map(int, found.groups())) >= MENDED else f"{NIM}-{found[0]}"


def is_old(peer):
    return peer.startswith(f"{NIM}-")
