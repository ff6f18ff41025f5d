"""A worker's side of the channel to its parent, which decides for all workers. Implements `shared.Worker`."""

from __future__ import annotations

import asyncio
import itertools
import logging
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from speechbridge.engines import UpstreamClosed
from speechbridge.protocol.close import Close, CloseCode
from speechbridge.protocol.resume import Resume
from speechbridge.server.client_secrets import PREFIX
from speechbridge.server.limits import Refused
from speechbridge.server.shared import Readiness
from speechbridge.server.workers.channel import Channel, Message, packed, unpacked
from speechbridge.server.workers.rates import Metered, Rates
from syncbridge import Overloaded

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from speechbridge.protocol.openai import Settings as OpenAiSettings
    from speechbridge.server.admission import Handshake
    from speechbridge.server.client_secrets import ClientSecret
    from speechbridge.server.http import HttpProtocol
    from speechbridge.server.metrics import Metrics
    from speechbridge.server.session import Sessions
    from speechbridge.server.shared import Lease
    from speechbridge.settings import LimitSettings

logger = logging.getLogger(__name__)

REPORT_SECONDS = 0.2  # after the end of a session: then it is in the parent's metrics, even if this process is killed

RESTARTED = Close(CloseCode.UNAVAILABLE, "the recognizer is being restarted: try again shortly")
ORPHANED: Message = {"refused": [int(CloseCode.SHUTTING_DOWN), "the service is shutting down"], "slot": False}


class Link:
    """The worker's requests to its parent, and the parent's messages to it.

    `taken` is called with a connection, and with the beginning of its request if that was read already. `orphaned` is
    called if the parent dies.
    """

    def __init__(self, *, taken: Callable[[socket.socket, bytes], object], orphaned: Callable[[], object]) -> None:
        self.name = self.prefix = ""
        self.core: int | None = None  # to be pinned to; None: to none
        self.limits: LimitSettings
        self._rates: Rates | None = None
        self._is_named = asyncio.Event()
        self._taken = taken
        self._orphaned = orphaned
        self._channel: Channel | None = None
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._recognizer: str | None = None
        self._sessions: Sessions
        self._metrics: Metrics
        self._trouble: Callable[[], str | None]
        self._report_due = False

    async def named(self) -> bool:
        """Wait for this worker's name. Returns False if the parent is gone."""
        await self._is_named.wait()
        return bool(self.name)

    def open(self, end: socket.socket) -> None:
        """Use this end of the channel to the parent from now on."""
        self._channel = Channel(end, self._received, self._lost)

    def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            self._channel.close()
        if self._rates is not None:
            self._rates.close()

    def loaded(self) -> None:
        """Report that this worker waits for its name."""
        self._send({"loaded": True})

    def ready(self) -> None:
        """Report that this worker can take connections."""
        self._send({"ready": True})

    def failed(self, text: str, *, is_wrong: bool) -> None:
        """Report why this worker cannot start; `is_wrong` if a setting is wrong."""
        self._send({"failed": text, "is_wrong": is_wrong})

    def took(self) -> None:
        """Report that this worker has taken a connection."""
        self._send({"taken": True})

    def over(self) -> None:
        """Report that a connection has ended."""
        self._send({"over": True})

    def hand_on(self, protocol: HttpProtocol) -> bool:
        """If a WebSocket's handshake resumes a stream of another worker, hand it on to that one, and return True."""
        if self._channel is None or not self._channel.is_open:
            return False
        _, _, query = protocol.url.partition(b"?")
        resume = Resume.parse(query.decode("latin-1")) if b"resume=" in query else None
        owner, dot, _ = (resume.key or "" if resume else "").partition(".")
        if not dot or owner == self.name or not owner.isdecimal() or len(owner) > len("256"):
            return False
        logger.debug("a client resumes a stream of worker %s", owner)
        head = protocol.head.decode("latin-1")
        self._send({"hand_on": owner, "head": head}, protocol.duplicate())
        return True

    # ---- the interface `shared.Worker` -------------------------------------------------------------------------------

    def running(self) -> AbstractAsyncContextManager[None]:
        """Do nothing: the channel is open already."""
        return nullcontext()

    async def admit(self, handshake: Handshake) -> Lease:
        """Ask for a lease: see `shared.Shared`."""
        answer = await self._ask("admit", handshake=asdict(handshake))
        if "refused" in answer:
            code, reason = answer["refused"]
            raise Refused(CloseCode(code), reason)
        metered = None
        if "rows" in answer and self._rates is not None:
            metered = Metered(self._rates, int(self.name) - 1, answer["rows"], self.limits)
        return _Lease(answer["owner"], metered, lambda what: self._send({what: answer["lease"]}))

    async def make_secret(self, owner: str, seconds: int, settings: OpenAiSettings) -> tuple[str, ClientSecret]:
        """Have the parent make a client secret, so that every worker can find it."""
        answer = await self._ask("make_secret", owner=owner, seconds=seconds, settings=packed(settings))
        if "refused" in answer:
            code, reason = answer["refused"]
            raise Refused(CloseCode(code), reason)
        return answer["value"], unpacked(answer["secret"])

    async def find_secret(self, value: str) -> ClientSecret | None:
        """Ask the parent for a client secret."""
        if not value.startswith(PREFIX):
            return None
        answer = await self._ask("find_secret", value=value)
        return unpacked(answer["secret"]) if answer.get("secret") else None

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Take the place of a stream: see `shared.Shared`."""
        if not (await self._ask("slot"))["slot"]:
            raise Overloaded("all streams of the service are in use")
        try:
            yield
        finally:
            self._send({"free": True})
            self._report_soon()

    async def readiness(self) -> Readiness:
        """Ask for the readiness of all workers."""
        answer = await self._ask("readiness")
        if "refused" in answer:
            return Readiness(1, 1, "", is_draining=True)
        return Readiness(**answer["readiness"])

    async def metrics(self) -> bytes:
        """Ask for the metrics of all workers; if the parent is gone, return only ours."""
        answer = await self._ask("metrics")
        return self._metrics.text() if "refused" in answer else str(answer["metrics"]).encode()

    def read(self, sessions: Sessions, metrics: Metrics, trouble: Callable[[], str | None]) -> None:
        """Report these to the parent from now on."""
        self._sessions, self._metrics, self._trouble = sessions, metrics, trouble

    def recognizer(self) -> str:
        """Return the URL of the recognizer that the parent runs. Raises UpstreamClosed while it is restarted."""
        if self._recognizer is None:
            raise UpstreamClosed(RESTARTED)
        return self._recognizer

    # ---- the channel -------------------------------------------------------------------------------------------------

    def _send(self, message: Message, connection: socket.socket | None = None) -> None:
        if self._channel is not None:
            self._channel.send(message, connection)

    async def _ask(self, what: str, **more: Any) -> Message:
        """Ask the parent. Cancellation: if it grants something, that is given back when its answer arrives."""
        if self._channel is None or not self._channel.is_open:
            return ORPHANED
        number = next(self._ids)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._send({"ask": number, "what": what, **more})
        return await answer

    def _received(self, message: Message, connection: socket.socket | None) -> None:
        if "be" in message:
            self.name, self.prefix = message["be"], f"{message['be']}."
            self.core = message["core"]
            self._rates = Rates(*message["rates"]) if message["rates"] else None
            self._is_named.set()
        elif "take" in message:
            if connection is not None:
                self._taken(connection, message.get("head", "").encode("latin-1"))
        elif "answer" in message:
            self._answered(message)
        elif "report" in message:
            self._report(message["report"])
        elif "recognizer" in message:
            self._recognizer = message["recognizer"]

    def _answered(self, message: Message) -> None:
        waiting = self._waiting.pop(message["answer"])
        if not waiting.done():
            waiting.set_result(message)
        elif message.get("slot"):  # the task that asked was cancelled
            self._send({"free": True})
        elif "lease" in message:
            self._send({"release": message["lease"]})

    def _lost(self) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(ORPHANED)
        self._waiting.clear()
        self._is_named.set()
        self._orphaned()

    def _report_soon(self) -> None:
        if not self._report_due:
            self._report_due = True
            asyncio.get_running_loop().call_later(REPORT_SECONDS, self._report)

    def _report(self, number: int = 0) -> None:
        self._report_due = self._report_due and number != 0
        self._send(
            {
                "reported": number,
                "families": self._metrics.families(),
                "abandoned": self._sessions.pool.abandoned,
                "trouble": self._trouble() or "",
            }
        )


class _Lease:
    """A lease that the parent has granted. It is released at the parent when its last holder releases it."""

    def __init__(self, owner: str, metered: Metered | None, send: Callable[[str], object]) -> None:
        self.owner = owner
        self.is_metered = metered is not None
        self._metered = metered
        self._send = send
        self._holders = 0

    def count(self, size: int, messages: int, now: float) -> Close | None:
        return None if self._metered is None else self._metered.count(size, messages, now)

    def pause(self, size: int, now: float) -> float:
        return 0.0 if self._metered is None else self._metered.pause(size, now)

    def take_places(self) -> None:
        """Take places: see `limits.Lease`."""
        self._send("take_places")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lease within a `with` block. There may be several holders; the lease ends with the last one."""
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            if not self._holders:
                self._send("release")
