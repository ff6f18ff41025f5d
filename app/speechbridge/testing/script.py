"""A recognizer whose answers and faults are in a script, for tests and demonstrations.

A script is a tuple of steps, which run one after the other. Only waits may come before `Accept` or `Status`, which
answer the request; a script without either accepts at once. (By default the server allows 10 s for a handshake.) After
the last step it sends nothing more, and waits for the client to disconnect. All messages of the client are recorded in
a `Client` meanwhile. A text other than `EOS` ends the script with 1007 at any time.

    Scripted((Greet(), Wait(audio=32000), End(4003, "no credits")))        # no client has credits
    Scripted((Greet(), Wait(audio=32000), Drop()), NORMAL)                 # only the first connection breaks

As JSON (`python -m speechbridge.testing --script FILE`) it is a list of scripts, each a list of steps:

    [[{"do": "greet"}, {"do": "wait", "audio": 32000}, {"do": "end", "code": 4003, "reason": "no credits"}]]
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import math
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_type_hints
from urllib.parse import parse_qsl
from weakref import WeakKeyDictionary

from speechbridge.protocol.close import END_OF_INPUT, Close, CloseCode
from speechbridge.protocol.messages import EOS, Connected, Element, Final, Partial
from speechbridge.recognizer.server import LINGER, Connection, Refusal
from speechbridge.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

CLIENTS = 10_000  # most recorded clients; the oldest are dropped
BYTES_PER_SECOND = 32000  # of 16 kHz mono


@dataclass(frozen=True, slots=True)
class Accept:
    """Answer the request with 101."""


@dataclass(frozen=True, slots=True)
class Status:
    """Answer the request with an HTTP status instead of 101."""

    code: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until all given conditions are met; without conditions, for ever."""

    seconds: float | None = None
    audio: int | None = None  # bytes received so far
    messages: int | None = None  # binary messages received so far, with empty ones
    eos: bool = False
    silence: float | None = None  # seconds without a message
    latch: str | None = None  # until the test opens this latch: `Scripted.release`


@dataclass(frozen=True, slots=True)
class Greet:
    """Send `connected`, with this id, or by default one that the server makes."""

    id: str = ""


@dataclass(frozen=True, slots=True)
class Say:
    """Send a text: whole, in fragments with a pause (seconds) between them, or as one binary message."""

    text: str
    fragments: int = 1
    pause: float = 0.0
    binary: bool = False


@dataclass(frozen=True, slots=True)
class Echo:
    """Answer each binary message with a partial ("chunk 1" and so on), so many times or until EOS."""

    messages: int | None = None


@dataclass(frozen=True, slots=True)
class Total:
    """Send a final with the number of bytes received: "32000 bytes". Its times count from the client's `start_ts`."""


@dataclass(frozen=True, slots=True)
class End:
    """Send a close frame (for None, one without a code); go on reading for `linger` seconds, then drop TCP."""

    code: int | None = CloseCode.NORMAL
    reason: str = ""
    linger: float = LINGER


@dataclass(frozen=True, slots=True)
class Drop:
    """End TCP without a close frame, with FIN or with RST."""

    reset: bool = False


@dataclass(frozen=True, slots=True)
class StopReading:
    """Stop reading from the socket."""


@dataclass(frozen=True, slots=True)
class AnswerClose:
    """Answer the client's close frame with this one. Rev.ai answers with 1007."""

    code: int = CloseCode.INVALID
    reason: str = ""


Step = Accept | Status | Wait | Greet | Say | Echo | Total | End | Drop | StopReading | AnswerClose
Script = tuple[Step, ...]

STEPS: dict[str, type[Step]] = {
    "accept": Accept,
    "status": Status,
    "wait": Wait,
    "greet": Greet,
    "say": Say,
    "echo": Echo,
    "total": Total,
    "end": End,
    "drop": Drop,
    "stop_reading": StopReading,
    "answer_close": AnswerClose,
}

NORMAL: Script = (Greet(), Echo(), Total(), End(CloseCode.NORMAL, END_OF_INPUT))


def partial(*words: str, ts: float = 0.0, end_ts: float = 0.0) -> Say:
    return Say(Partial(ts, end_ts, tuple(map(Element, words))).encode())


def final(*words: str, ts: float = 0.0, end_ts: float = 0.0) -> Say:
    """Make a final of these words, each with the times of the final."""
    spaced = [e for word in words for e in (Element(word, "text", ts, end_ts, 1.0), Element(" ", "punct"))]
    return Say(Final(ts, end_ts, tuple(spaced[:-1])).encode())


class Client:
    """A record of what one client has sent so far."""

    def __init__(self, query: str, *, keep: bool) -> None:
        self.query = query
        self.audio = 0  # bytes
        self.messages = 0  # binary ones
        self.eos = 0  # number of EOS: some clients send it twice
        self.received: list[bytes | str] | None = [] if keep else None  # every message, in order
        self.client_close: Close | None = None  # the client's close frame, if it sent one
        self.over = False  # the connection has ended
        self._hash = hashlib.sha256()
        self._changed = asyncio.Event()

    @property
    def parameters(self) -> dict[str, str]:
        """The query of the URL, decoded, with the access token."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    @property
    def seconds(self) -> float:
        """The duration of the audio, if it is 16 kHz mono."""
        return self.audio / BYTES_PER_SECOND

    @property
    def start_ts(self) -> float:
        """The `start_ts` of its query; 0 without one."""
        return float(self.parameters.get("start_ts") or 0.0)

    @property
    def sha256(self) -> str:
        """The checksum of all audio so far, in hex."""
        return self._hash.hexdigest()

    async def until(self, condition: Callable[[Client], bool]) -> None:
        """Wait until a condition is true; it is checked whenever something arrives, and when the connection ends.

        Cancellation: safe.
        """
        while not condition(self):
            await self.change()

    async def change(self) -> None:
        """Wait until something arrives, or the connection ends.

        Cancellation: safe.
        """
        await self._changed.wait()

    def record(self, message: bytes | str) -> None:
        if self.received is not None:
            self.received.append(message)
        if isinstance(message, bytes):
            self.audio += len(message)
            self.messages += 1
            self._hash.update(message)
        elif message == EOS:
            self.eos += 1
        self._change()

    def end(self, client_close: Close | None) -> None:
        self.client_close, self.over = client_close, True
        self._change()

    def _change(self) -> None:
        self._changed.set()  # wakes all tasks that wait now; later ones wait for the next change
        self._changed = asyncio.Event()


class Scripted:
    """Plays a script with each client: the first script with the first client, and so on; further ones get the last.

    `keep` records the messages themselves, and not only their number and checksum.
    """

    def __init__(self, *scripts: Script, keep: bool = False) -> None:
        self.clients: deque[Client] = deque(maxlen=CLIENTS)
        self._scripts = [_split(script) for script in scripts or (NORMAL,)]
        self._keep = keep
        self._count = 0
        self._arrived = asyncio.Event()
        self._latches: dict[str, asyncio.Event] = {}
        self._plays: WeakKeyDictionary[Connection, tuple[Client, Script]] = WeakKeyDictionary()

    @classmethod
    def from_json(cls, text: str) -> Scripted:
        """Read a list of scripts. Raises ValueError, which names the step that is wrong."""
        scripts = json.loads(text)
        if not isinstance(scripts, list) or not all(isinstance(script, list) for script in scripts):
            raise ValueError("a script file is a list of scripts, each a list of steps")
        return cls(*(tuple(_step(step) for step in script) for script in scripts))

    def release(self, latch: str) -> None:
        """Open a latch, for present and later waits."""
        self._latch(latch).set()

    async def client(self, number: int = 0) -> Client:
        """Return the record of a client, counted from 0, as soon as it has connected."""
        while len(self.clients) <= number:
            await self._arrived.wait()
        return self.clients[number]

    async def admit(self, connection: Connection) -> Refusal | None:
        """Play the steps before the answer to the request."""
        handshake, steps = self._scripts[min(self._count, len(self._scripts) - 1)]
        self._count += 1
        client = Client(connection.query, keep=self._keep)
        self.clients.append(client)
        self._arrived.set()
        self._arrived = asyncio.Event()
        try:
            for step in handshake:
                if isinstance(step, Status):
                    client.end(None)
                    return Refusal(step.code, step.text)
                if isinstance(step, Wait):
                    await self._wait(step, client)
        except asyncio.CancelledError:
            client.end(None)
            raise
        self._plays[connection] = client, steps
        return None

    async def handle(self, connection: Connection) -> None:
        """Play the rest."""
        client, steps = self._plays[connection]
        try:
            match await self._ending(steps, connection, client):
                case Drop(reset):
                    await connection.drop(reset=reset)
                case End(code, reason, linger):
                    await connection.close(None if code is None else Close(code, reason), linger)
        finally:
            client.end(connection.client_close)

    async def _ending(self, steps: Script, connection: Connection, client: Client) -> End | Drop:
        """Play the script and receive at the same time, until one of the two returns the end; then cancel the other."""
        both = playing, listening = (
            asyncio.create_task(self._play(steps, connection, client)),
            asyncio.create_task(_listen(connection, client)),
        )
        try:
            done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            return (playing if playing in done else listening).result()
        finally:
            await cancel_and_wait(*both)

    async def _play(self, steps: Script, connection: Connection, client: Client) -> End | Drop:
        for step in steps:
            match step:
                case End() | Drop():
                    return step
                case Wait():
                    await self._wait(step, client)
                case _:
                    await _act(step, connection, client)
        return await asyncio.Future()  # nothing more is sent; cancelled when the client leaves

    async def _wait(self, step: Wait, client: Client) -> None:
        if step == Wait():
            await asyncio.Future()
        if step.latch is not None:
            await self._latch(step.latch).wait()
        await client.until(
            lambda client: (
                client.audio >= (step.audio or 0) and client.messages >= (step.messages or 0) and client.eos >= step.eos
            )
        )
        if step.seconds is not None:
            await asyncio.sleep(step.seconds)
        if step.silence is not None:
            with suppress(TimeoutError):
                while True:
                    async with asyncio.timeout(step.silence):
                        await client.change()

    def _latch(self, name: str) -> asyncio.Event:
        return self._latches.setdefault(name, asyncio.Event())


def _split(script: Script) -> tuple[Script, Script]:
    """Separate the steps up to the answer to the request from those after it."""
    answers = [place for place, step in enumerate(script) if isinstance(step, Accept | Status)]
    begin = answers[0] + 1 if answers else 0
    if any(not isinstance(step, Wait) for step in script[: begin - 1 if begin else 0]) or len(answers) > 1:
        raise ValueError("before Accept or Status a script can only wait, and at most one of the two is allowed")
    return script[:begin], script[begin:]


async def _listen(connection: Connection, client: Client) -> End:
    while True:
        message = await connection.receive()
        client.record(message)
        if isinstance(message, str) and message != EOS:
            return End(CloseCode.INVALID, f"the only text message is {EOS}")


async def _act(step: Step, connection: Connection, client: Client) -> None:
    match step:
        case Greet(id):
            await connection.send(Connected(id or connection.id).encode())
        case Say(text, 1):
            await connection.send(text.encode() if step.binary else text)
        case Say(text, fragments, pause):
            await connection.send(_dribble(text, fragments, pause))
        case Echo(messages):
            await _echo(messages, connection, client)
        case Total():
            begin = client.start_ts
            await connection.send(final(str(client.audio), "bytes", ts=begin, end_ts=begin + client.seconds).text)
        case StopReading():
            connection.stop_reading()
        case AnswerClose(code, reason):
            connection.answer_close(Close(code, reason))


async def _dribble(text: str, fragments: int, pause: float) -> AsyncIterator[str]:
    size = max(1, math.ceil(len(text) / fragments))
    for start in range(0, len(text), size):
        if start:
            await asyncio.sleep(pause)
        yield text[start : start + size]


async def _echo(messages: int | None, connection: Connection, client: Client) -> None:
    for number in itertools.count(1) if messages is None else range(1, messages + 1):
        await client.until(lambda client, number=number: client.messages >= number or client.eos > 0)  # type: ignore[misc] # a default, as the loop changes number
        if client.messages < number:
            break
        await connection.send(partial("chunk", str(number), end_ts=client.seconds).text)


def _step(parsed: object) -> Step:
    if not isinstance(parsed, dict) or parsed.get("do") not in STEPS:
        raise ValueError(f'not a step: {parsed!r}: a step is an object whose "do" is one of {", ".join(STEPS)}')
    kind = STEPS[parsed["do"]]
    values = {name: value for name, value in parsed.items() if name != "do"}
    types = get_type_hints(kind)
    for name, value in values.items():
        if name not in types:
            raise ValueError(f"step {parsed['do']} has no {name}; it has: {', '.join(types) or 'nothing'}")
        if isinstance(value, dict) and types[name] is str:
            values[name] = json.dumps(value)  # a message may be written as an object instead of a string
        elif not isinstance(value, types[name]) and not (isinstance(value, int) and isinstance(1.0, types[name])):
            raise ValueError(f"step {parsed['do']}: {name} cannot be {value!r}")
    return kind(**values)
