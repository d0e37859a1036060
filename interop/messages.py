"""What a message means, decoded by hand and not by the crate that is tested against it."""

import ipaddress

RESPONSE_STATUS = {0: "E_INTERNAL_ERROR", 100: "E_REQUEST_REJECTED", 101: "E_DIAL_REFUSED", 200: "OK"}
DIAL_STATUS = {0: "UNUSED", 100: "E_DIAL_ERROR", 101: "E_DIAL_BACK_ERROR", 200: "OK"}


def varint(data, at):
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at


def fields(data):
    """Number and value of each field of a protobuf message."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 1:
            value, at = int.from_bytes(data[at : at + 8], "little"), at + 8
        elif kind == 2:
            length, at = varint(data, at)
            value, at = data[at : at + length], at + length
            assert len(value) == length
        else:
            raise ValueError(f"wire type {kind}")
        yield tag >> 3, value


def multiaddr(data):
    text, at = "", 0
    while at < len(data):
        code, at = varint(data, at)
        if code in (4, 41):
            size = 4 if code == 4 else 16
            text += f"/ip{'4' if code == 4 else '6'}/{ipaddress.ip_address(data[at : at + size])}"
            at += size
        elif code in (6, 273):
            text += f"/{'tcp' if code == 6 else 'udp'}/{int.from_bytes(data[at : at + 2], 'big')}"
            at += 2
        else:
            text += {461: "/quic-v1", 477: "/ws"}[code]
    return text


def read_frames(tap, **fields):
    """The messages that a tap told of, without those of a request that was not read: it made another one."""
    return tap.all("frame", after="unread", **fields)


def meaning(stream, direction, role, frame):
    """The words of `tests/wire-vectors.json`."""
    length, at = varint(frame, 0)
    body = frame[at:]
    assert len(body) == length
    if stream == "dial-back":
        values = dict(fields(body))
        # The tap sends the nonce where it is the server.
        if (direction == "sent") == (role == "server"):
            return {"dial_back": {"nonce": values.get(1, 0)}}
        return {"dial_back_response": {"status": {0: "OK"}[values.get(1, 0)]}}
    ((number, message),) = fields(body)
    parts = list(fields(message))
    values = dict(parts)
    if number == 1:
        addrs = [multiaddr(value) for field, value in parts if field == 1]
        return {"dial_request": {"addrs": addrs, "nonce": values.get(2, 0)}}
    if number == 2:
        return {
            "dial_response": {
                "status": RESPONSE_STATUS[values.get(1, 0)],
                "addr_idx": values.get(2, 0),
                "dial_status": DIAL_STATUS[values.get(3, 0)],
            }
        }
    if number == 3:
        return {"dial_data_request": {"addr_idx": values.get(1, 0), "num_bytes": values.get(2, 0)}}
    return {"dial_data_response": {"len": len(values.get(1, b""))}}
