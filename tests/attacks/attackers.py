"""The attackers, each a process: python -m tests.attacks.attackers NAME URL KEY SECONDS. Prints the answers."""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

from speechbridge.protocol.request import PATH, ContentType
from speechbridge.protocol.transcriptions import PATH as FILES
from tests.attacks.wire import GONE, Wire
from tests.helpers.forms import MODEL, TYPE, form, part
from tests.helpers.raw_websocket import frame, handshake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MANY = 10  # connections of an attack on memory
CROWD = 900  # connections of an attack with many connections
STREAM = f"{PATH}?content_type={ContentType.raw()}"
WIDE = f"{PATH}?content_type={ContentType.raw(48000, 10)}"  # 960,000 bytes per second
CONFIRMATION = b'{"type": "received", "finals": 0}'


def message(opcode: int, payload: bytes) -> bytes:
    """Make a client's frame of any length, masked with zeros."""
    if len(payload) < 126:
        return frame(opcode, payload)
    length = struct.pack("!BH", 0xFE, len(payload)) if len(payload) < 2**16 else struct.pack("!BQ", 0xFF, len(payload))
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


class Attacker:
    """An attack: its target, its end, and the service's answers."""

    def __init__(self, url: str, key: str, seconds: float) -> None:
        self.url = url
        self.key = key
        self.until = time.monotonic() + seconds
        self.answers: Counter[str] = Counter()

    def wires(self) -> Iterator[Wire]:
        """Connect, and reconnect whenever the connection has ended, until time is up."""
        while time.monotonic() < self.until:
            wire = Wire(self.url, self.until)
            with wire, contextlib.suppress(*GONE):
                yield wire
            self.answers[wire.answer or "nothing"] += 1

    def keyed(self, path: str) -> str:
        return f"{path}{'&' if '?' in path else '?'}access_token={self.key}"

    def flood(self, data: bytes, path: str = "/ws_a") -> None:
        for wire in self.wires():
            wire.open(self.keyed(path)).flood(data)

    def hold(self, prepare: Callable[[int, Wire], object], count: int = MANY) -> None:
        """Keep many connections open, each prepared with `prepare`, until time is up."""
        with contextlib.ExitStack() as stack:
            wires = [stack.enter_context(Wire(self.url, self.until)) for _ in range(count)]
            for number, wire in enumerate(wires):
                with contextlib.suppress(*GONE):
                    prepare(number, wire)
            wires[0].hold()
            for wire in wires:
                wire.listen()
                self.answers[wire.answer or "nothing"] += 1


def refused_and_goes_on(on: Attacker) -> None:
    """Without a key: after the refusal it sends tiny frames as fast as it can."""
    for wire in on.wires():
        wire.open("/ws_a").flood(frame(2, b"x"))


def endless_headers(on: Attacker) -> None:
    """Without a key: a request whose headers never end."""
    for wire in on.wires():
        wire.socket.sendall(b"GET /ws_a HTTP/1.1\r\nHost: x\r\n")
        wire.flood(b"X-Filler: " + b"x" * 1000 + b"\r\n")


def endless_header(on: Attacker) -> None:
    """A single header that never ends."""
    for wire in on.wires():
        wire.socket.sendall(b"GET /ws_a HTTP/1.1\r\nHost: x\r\nX-Filler: ")
        wire.flood(b"x" * 1000)


def endless_trailer(on: Attacker) -> None:
    """A chunked body whose trailer never ends."""
    for wire in on.wires():
        wire.socket.sendall(b"POST /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Filler: ")
        wire.flood(b"x" * 1000)


def pipelined_requests(on: Attacker) -> None:
    """Requests as fast as the service reads them, without waiting for answers."""
    for wire in on.wires():
        wire.flood(b"GET / HTTP/1.1\r\n\r\n")


def requests_at_one_moment(on: Attacker) -> None:
    """Without a key: many handshakes, all without their last byte at first, and then these bytes at one moment."""
    request = handshake("/ws_a")
    while time.monotonic() < on.until:
        with contextlib.ExitStack() as stack:
            wires = [stack.enter_context(Wire(on.url, on.until)) for _ in range(CROWD)]
            for last in (request[:-1], request[-1:]):
                for wire in wires:
                    with contextlib.suppress(*GONE):
                        wire.socket.sendall(last)
            for wire in wires:
                wire.listen(5.0)
                on.answers[wire.answer or "nothing"] += 1


def silent_connections(on: Attacker) -> None:
    """Without a key: as many connections as possible, all kept open without a request."""
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(on.url, on.until)) for _ in range(2 * CROWD)]
        wires[-1].hold()
        for wire in wires:
            wire.listen()
            on.answers[wire.answer or "nothing"] += 1


def long_parameters(on: Attacker) -> None:
    """Streams with such long parameters that a speech service may refuse them, or drop the connection."""
    for wire in on.wires():
        wire.open(on.keyed(f"{STREAM}&metadata={'/' * 7500}"))
        wire.listen(1.0)


def unread_pings(on: Attacker) -> None:
    """Pings, just below the rate limit, on connections that do not read the pongs."""
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(on.url, on.until)) for _ in range(MANY)]
        for wire in wires:
            wire.open(on.keyed("/ws"))
            wire.socket.sendall(frame(1, b"text") + message(1, b"x" * (int(os.environ["LARGEST"]) - 10)))
        while time.monotonic() < on.until:
            for wire in wires:
                with contextlib.suppress(*GONE):
                    wire.socket.sendall(frame(9, b"x" * 125) * 40)
            time.sleep(0.5)
    on.answers["nothing"] += 1


def pings(on: Attacker) -> None:
    on.flood(frame(9, b"!"))


def pongs(on: Attacker) -> None:
    on.flood(frame(10, b"!"))


def empty_messages(on: Attacker) -> None:
    on.flood(frame(2))


def empty_fragments(on: Attacker) -> None:
    on.flood(frame(2, fin=False) + frame(0, fin=False) * 1000 + frame(0))


def tiny_fragments(on: Attacker) -> None:
    on.flood(frame(2, b"x", fin=False) + frame(0, b"x", fin=False) * 1000 + frame(0, b"x"))


def tiny_messages(on: Attacker) -> None:
    on.flood(frame(2, b"x"))


def confirmations(on: Attacker) -> None:
    on.flood(frame(1, CONFIRMATION), STREAM + "&resume=true")


def huge_confirmations(on: Attacker) -> None:
    """Confirmations that take long to parse."""
    on.flood(message(1, b'{"finals": [' + b"{}," * 80_000 + b"{}]}"), STREAM + "&resume=true")


def large_messages_unfinished(on: Attacker) -> None:
    """Messages of the largest size, without their last byte."""
    size = int(os.environ["LARGEST"])

    def prepare(_number: int, wire: Wire) -> None:
        wire.open(on.keyed("/ws_a"))
        wire.socket.setblocking(True)
        wire.socket.sendall(bytes([0x82, 0xFF]) + struct.pack("!Q", size) + bytes(4 + size - 1))

    on.hold(prepare)


def wide_streams(on: Attacker) -> None:
    """48 kHz and 10 channels, as fast as possible, to a speech service that never sends a final."""
    loud = (bytes([0, 64]) * 500 + bytes([0, 192]) * 500) * 8

    def prepare(_number: int, wire: Wire) -> None:
        wire.open(on.keyed(WIDE))
        wire.until = time.monotonic() + 0.5
        wire.flood(message(2, loud))
        wire.until = on.until

    on.hold(prepare)


def idle_connections(on: Attacker) -> None:
    """As many connections to /ws as possible, without any message."""
    on.hold(lambda _number, wire: wire.open(on.keyed("/ws")), 500)


def metrics(on: Attacker) -> None:
    """Request the metrics on many connections, as fast as possible."""
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(on.url, on.until)) for _ in range(MANY)]
        while time.monotonic() < on.until:
            for wire in wires:
                wire.socket.setblocking(True)
                wire.socket.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            for wire in wires:
                wire.socket.recv(2**16)
    on.answers["answers"] += 1


def _post(on: Attacker, size: int, content_type: str) -> bytes:
    head = f"POST {FILES} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {on.key}\r\nContent-Length: {size}\r\n"
    return f"{head}Content-Type: {content_type}\r\n\r\n".encode()


def junk_files(on: Attacker) -> None:
    """Files without audio that a demuxer must read to their end, on many connections."""
    sent = form(MODEL, ("file", b"RIFF\xff\xff\xff\x7fWAVE" + bytes(20 * 2**20)))
    while time.monotonic() < on.until:
        with contextlib.ExitStack() as stack:
            wires = [stack.enter_context(Wire(on.url, on.until)) for _ in range(MANY)]
            for wire in wires:
                with contextlib.suppress(*GONE):
                    wire.socket.sendall(_post(on, len(sent), TYPE) + sent)
            for wire in wires:
                while time.monotonic() < on.until and not wire.answer and wire.listen(0.1):
                    pass
                on.answers[wire.answer or "nothing"] += 1


def endless_forms(on: Attacker) -> None:
    """A form of fields that never ends."""
    for wire in on.wires():
        wire.socket.sendall(_post(on, 2**24, TYPE))
        wire.flood(part("x", "") + b"\r\n")


ATTACKS: dict[str, Callable[[Attacker], None]] = {
    attack.__name__: attack
    for attack in (
        *(refused_and_goes_on, endless_headers, endless_header, endless_trailer, pipelined_requests, metrics),
        *(requests_at_one_moment, silent_connections, long_parameters, unread_pings),
        *(pings, pongs, empty_messages, empty_fragments, tiny_fragments, tiny_messages),
        *(confirmations, huge_confirmations, large_messages_unfinished, wide_streams, idle_connections),
        *(junk_files, endless_forms),
    )
}


def main() -> None:
    name, url, key, seconds = sys.argv[1:]
    attacker = Attacker(url, key, float(seconds))
    ATTACKS[name](attacker)
    print("; ".join(f"{answer} ({times} x)" for answer, times in attacker.answers.most_common(3)))


if __name__ == "__main__":
    main()
