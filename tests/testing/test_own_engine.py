"""The engine in examples/ passes the checks that all engines pass, before a server of Vosk's protocol."""

from __future__ import annotations

import asyncio
import json
import runpy
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from speechbridge.backoff import Backoff
from speechbridge.engines import reconnect
from speechbridge.testing.conformance import CHECKS, RATE, Behaviour, from_now_on
from tests.helpers.behaviours import DEAF_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

    from websockets.http11 import Request, Response

    from speechbridge.engines import Engine

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_engine.py"

pytestmark = pytest.mark.slow


def partial(text: str) -> str:
    return json.dumps({"partial": text})


def result(total: int) -> str:
    """Return a result whose words end where the audio does. Without audio there are none."""
    half, end = total / RATE / 2, total / RATE
    words = [
        {"word": str(total), "start": 0.0, "end": half, "conf": 1.0},
        {"word": "bytes", "start": half, "end": end, "conf": 1.0},
    ]
    return json.dumps({"result": words, "text": f"{total} bytes"} if total else {"text": ""})


class Vosk:
    """A server of its protocol: a configuration, then a message for each message, the last one for `eof`."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._behaviours: Iterator[Behaviour] = from_now_on(behaviour)

    def admit(self, connection: ServerConnection, _request: Request) -> Response | None:
        refuses = self._behaviour is Behaviour.REFUSES
        return connection.respond(HTTPStatus.UNAUTHORIZED, "no") if refuses else None

    async def converse(self, connection: ServerConnection) -> None:
        behaviour, total = next(self._behaviours), 0
        assert json.loads(await connection.recv()) == {"config": {"sample_rate": 16000, "words": True}}
        if behaviour is Behaviour.DEAF:
            connection.transport.pause_reading()
            await asyncio.sleep(DEAF_SECONDS)
            connection.transport.abort()
            return
        while isinstance(message := await connection.recv(), bytes):
            is_first, total = total == 0, total + len(message)
            if is_first and behaviour is Behaviour.ENDS_EARLY:
                return
            if is_first and behaviour is Behaviour.BREAKS:
                connection.transport.abort()
                return
            if behaviour is Behaviour.MUTE or (behaviour is Behaviour.MUTE_AFTER_A_PARTIAL and not is_first):
                await connection.wait_closed()
            await connection.send(partial("so"))
        assert message == '{"eof" : 1}'
        if behaviour is not Behaviour.ANSWERS:
            await connection.wait_closed()
        await connection.send(result(total))


@asynccontextmanager
async def example(behaviour: Behaviour) -> AsyncIterator[Engine]:
    vosk = Vosk(behaviour)

    async def converse(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            await vosk.converse(connection)

    async with serve(converse, "127.0.0.1", 0, process_request=vosk.admit, ping_interval=None) as server:
        [(_, port)] = [socket.getsockname() for socket in server.sockets]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("VOSK_URL", f"ws://127.0.0.1:{port}")
            yield runpy.run_path(str(EXAMPLE))["vosk"]()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_the_example_conforms(
    check: Callable[[Any], Coroutine[Any, Any, None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconnect, "BACKOFF", Backoff(0.0, 0.0))
    await check(example)


def test_the_example_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 60
