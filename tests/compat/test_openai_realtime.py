"""The `openai` package, unmodified and at two versions, streams speech to a service of its own process."""

from __future__ import annotations

import asyncio
import base64
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from openai import AsyncOpenAI
from websockets.exceptions import ConnectionClosedError

from speechbridge.server.admission import make_key
from tests.compat.openai_realtime import KINDS, OLDER, Job, faults, run, speech
from tests.helpers.command import hears_hello, serving, url_in
from tests.helpers.packages import installed
from tests.helpers.secrets import KNOWN
from tests.helpers.service import drop_streams, service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.shared_server]

KEY, LINE = make_key("frank")
KNOWN.add(KEY)
SECOND = base64.b64encode(bytes(48000)).decode()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Run the service with the embedded recognizer, and return its address for OpenAI's clients."""
    with serving(SPEECHBRIDGE_API_KEYS=LINE, SPEECHBRIDGE_LOG_LEVEL="error") as (_, announced):
        yield url_in(announced).replace("ws://", "http://") + "/v1"


@pytest.fixture(scope="module", params=["installed", OLDER])
def packages(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """Where the package is that clients use; None for the one that is installed here."""
    return None if request.param == "installed" else installed(OLDER, tmp_path_factory.mktemp("older"))


@pytest.mark.parametrize("kind", KINDS)
def test_speech_is_heard_live_and_right(kind: str, url: str, packages: Path | None, tmp_path: Path) -> None:
    job = Job(url=url, key=KEY, connections=2, **KINDS[kind])  # type: ignore[arg-type] # each is a field
    job = replace(job, audio=speech(job.format, tmp_path))
    seen = run(job, packages)
    assert [faults(one, job) for one in seen] == [[], []]


def test_a_wrong_key_is_an_error_and_then_a_close(url: str, packages: Path | None, tmp_path: Path) -> None:
    [seen] = run(Job(url=url, key="sk-wrong", audio=speech("audio/pcm", tmp_path)), packages)
    [(kind, code, message, _)] = seen["errors"]
    assert (kind, code) == ("invalid_request_error", "invalid_api_key")
    assert seen["raised"] == ["ConnectionClosedError", 4001, message]


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[Any]:
    address = url.replace("http://", "ws://")
    async with (
        AsyncOpenAI(api_key=KEY, websocket_base_url=address) as client,
        client.realtime.connect(extra_query={"intent": "transcription"}, **options) as connection,
    ):
        assert (await connection.recv()).type == "session.created"
        yield connection


async def test_a_client_secret_of_the_package_connects(url: str) -> None:
    async with AsyncOpenAI(base_url=url, api_key=KEY) as client:
        made = await client.realtime.client_secrets.create(
            expires_after={"anchor": "created_at", "seconds": 60}, session={"type": "transcription"}
        )
    KNOWN.add(made.value)
    address = url.replace("http://", "ws://")
    async with (
        AsyncOpenAI(api_key=made.value, websocket_base_url=address) as client,
        client.realtime.connect(extra_query={"intent": "transcription"}) as connection,
    ):
        assert (await connection.recv()).type == "session.created"


async def test_a_language_that_the_engine_does_not_know_is_an_error_and_a_close(url: str) -> None:
    async with connected(url) as connection:
        await connection.session.update(
            session={"type": "transcription", "audio": {"input": {"transcription": {"language": "fr"}}}}
        )
        assert (await connection.recv()).type == "session.updated"
        await connection.input_audio_buffer.append(audio=SECOND)
        told = await connection.recv()
        assert "language" in told.error.message
        with pytest.raises(ConnectionClosedError) as caught:
            await connection.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 4002


async def test_the_package_reconnects_after_a_connection_that_breaks() -> None:
    async with service(hears_hello) as server:
        url = server.url + "/v1"
        async with connected(url, on_reconnecting=lambda _event: None, initial_delay=0.01) as connection:
            drop_streams(server)
            events = aiter(connection)
            assert (await anext(events)).type == "session.created"
            await connection.input_audio_buffer.append(audio=SECOND)
            await connection.input_audio_buffer.commit()
            async with asyncio.timeout(10):
                while (event := await anext(events)).type.rpartition(".")[2] != "completed":
                    pass
            assert event.transcript == "Hello."
