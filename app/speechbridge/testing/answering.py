"""An upstream for load tests: it sends a partial for each chunk of audio, whatever the size of the messages.

The query's `metadata` has the bytes of a chunk: so larger messages do not get fewer answers. After every `UTTERANCE`
seconds of audio, the answer is a final. EOS is answered with one more final, and a close.

    python -m speechbridge.testing.answering
"""

from __future__ import annotations

import asyncio
import re
from typing import cast

import uvloop

from speechbridge.protocol.close import END_OF_INPUT
from speechbridge.protocol.messages import Connected, Element, Final, Partial
from speechbridge.testing.frames import BINARY, CLOSE, TEXT, Frames, accept, encode

UTTERANCE = 1.0  # seconds
RATE = 32_000  # bytes per second of 16 kHz mono S16LE

WORDS = ["please", "open", "the", "window", "and", "close", "the", "door"]
ANSWER = Partial(0.0, 1.0, tuple(Element(word) for word in WORDS)).encode()
PARTIAL = encode(TEXT, ANSWER.encode())
GREETING = encode(TEXT, Connected("bench").encode().encode())
END = encode(CLOSE, (1000).to_bytes(2) + END_OF_INPUT.encode())


class Answering(asyncio.Protocol):
    def __init__(self) -> None:
        self._head = b""
        self._frames: Frames | None = None
        self._chunk = 0
        self._received = self._answered = self._settled = 0  # bytes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._frames is None:
            self._head += data
            head, blank, data = self._head.partition(b"\r\n\r\n")
            if not blank:
                return
            self._open(head.decode())
        assert self._frames is not None
        answers = b""
        for opcode, payload in self._frames.feed(data):
            if opcode == BINARY:
                self._received += len(payload)
                while self._received - self._answered >= self._chunk:
                    answers += self._answer()
            elif opcode == TEXT:  # EOS: the load sends no other text
                answers += self._final() + END
            elif opcode == CLOSE:
                self._transport.close()
        if answers:
            self._transport.write(answers)

    def _open(self, head: str) -> None:
        key = re.search(r"(?i)^sec-websocket-key: *(\S+)", head, re.MULTILINE)
        chunk = re.search(r"[?&]metadata=(\d+)", head)
        assert key
        assert chunk
        self._chunk = int(chunk[1])
        self._frames = Frames()
        self._transport.write(accept(key[1]) + GREETING)

    def _answer(self) -> bytes:
        self._answered += self._chunk
        if self._answered - self._settled < UTTERANCE * RATE:
            return PARTIAL
        return self._final()

    def _final(self) -> bytes:
        begun, self._settled = self._settled, self._answered
        elements = tuple(Element(f"{word} ") for word in WORDS)
        return encode(TEXT, Final(begun / RATE, self._settled / RATE, elements).encode().encode())


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0, backlog=1024)
    host, port = server.sockets[0].getsockname()
    print(f"listening on ws://{host}:{port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
