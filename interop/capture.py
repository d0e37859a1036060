"""Records the messages of the peers, byte by byte, as vectors for `tests/captured.rs`."""

import json
import threading

from cases import addr, server_addrs, websocket
from messages import meaning, read_frames
from net import Lab
from peers import Peer

# A run of zeros that is longer is written as its length.
LONG = 64


def vector(event, role):
    frame = bytes.fromhex(event["hex"])
    head = frame.rstrip(b"\0")
    zeros = len(frame) - len(head)
    if zeros <= LONG:
        head, zeros = frame, 0
    return {
        "from": "tap" if event["direction"] == "sent" else "peer",
        "stream": event["stream"],
        "frame_hex": head.hex(),
        **({"zeros": zeros} if zeros else {}),
        "meaning": meaning(event["stream"], event["direction"], role, frame),
    }


def thinned(frames):
    """Of dial data in a row, the first two messages and the last one."""

    def is_data(i):
        return 0 <= i < len(frames) and "dial_data_response" in frames[i]["meaning"]

    return [f for i, f in enumerate(frames) if not (is_data(i - 2) and is_data(i - 1) and is_data(i) and is_data(i + 1))]


def exchanges(peer):
    """Name, the tap's role, options of the server and of the client."""
    good = addr("tcp", Lab.CLIENT, Lab.OPEN)
    quic = addr("quic", Lab.CLIENT, Lab.OPEN)
    other = addr("tcp", Lab.CLIENT_OTHER, Lab.OPEN)
    six = addr("tcp", Lab.CLIENT_6, Lab.OPEN)
    closed = addr("tcp", Lab.CLIENT, 4003)
    ws = websocket(4004)
    for name, listen, test in (
        ("reachable", [good], [good]),
        ("reachable over QUIC", [quic], [quic]),
        ("another IP", [other], [other]),
        ("IPv6 from IPv4", [six], [six]),
        ("closed port", [], [closed]),
        ("refused", [], [ws]),
        ("several, the first undialable", [good], [ws, good]),
    ):
        yield name, "client", {}, {"listen": listen, "test": test}
    if peer == "go-libp2p":
        yield "over its limit", "client", {"limit": 0}, {"listen": [good], "test": [good]}
    for name, data, test in (
        ("reachable", False, [good]),
        ("dial data", True, [good]),
        ("IPv6", False, [six]),
        *([] if peer == "rust-libp2p" else [("several", False, [good, other])]),
    ):
        client = {"listen": test, "test": test, "together": True}
        yield name, "server", {"ask_for_data": data}, client


def run_exchange(peer, lab, commands, name, role, server_options, client_options):
    changed = threading.Condition()

    def wait(done):
        with changed:
            if not changed.wait_for(done, 30):
                raise RuntimeError(f"{peer}, tap as {role}, {name}: too slow: {[e for p in peers for e in p.events if e['event'] != 'frame']}")

    tap_serves = role == "server"
    options = {"role": "server", "seconds": 60, "listen": server_addrs(), **server_options}
    server = Peer(commands["tap" if tap_serves else peer], lab.server, [json.dumps(options)], changed)
    peers = [server]
    try:
        wait(lambda: server.any("ready"))
        ipv6 = name == "IPv6"
        at = f"{server_addrs()[2 if ipv6 else 0]}/p2p/{server.all('ready')[0]['id']}"
        options = {"role": "client", "seconds": 60, "servers": [at], **client_options}
        client = Peer(commands[peer if tap_serves else "tap"], lab.client, [json.dumps(options)], changed)
        peers.append(client)
        tap = server if tap_serves else client
        wait(lambda: tap.any("done"))
        frames = [vector(event, role) for event in read_frames(tap)]
        print(f"{peer}, {'server' if role == 'client' else 'client'}, {name}: {len(frames)} messages", flush=True)
        return {
            "name": name,
            "role": "client" if tap_serves else "server",
            "frames": thinned(frames),
        }
    finally:
        for process in peers:
            process.stop()


def capture(directory, peers, lab, commands, versions):
    directory.mkdir(parents=True, exist_ok=True)
    for peer in peers:
        captured = {
            "about": "Messages between this peer and a tap that speaks the protocol by hand, by `interop/run --capture`. "
            "`from`: who sent it. `zeros`: so many zero bytes follow. Of dial data, the first two messages and the last.",
            "peer": peer,
            "version": versions[peer],
            "exchanges": [run_exchange(peer, lab, commands, *exchange) for exchange in exchanges(peer)],
        }
        path = directory / f"{peer}.json"
        path.write_text(json.dumps(captured, indent=1) + "\n")
        print(f"{path} written", flush=True)
