"""OpenAI's realtime transcription over a socket, with a stub in the engine's place: events, refusals, secrets."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from speechbridge.protocol.close import Close
from speechbridge.protocol.messages import Element, Final, Partial
from speechbridge.protocol.openai import APPEND, CLEAR, CLIENT_SECRETS, COMMIT, LOGPROBS, REALTIME, UPDATE
from speechbridge.server.admission import make_key
from speechbridge.testing.script import End, Greet, Scripted, Wait
from tests.helpers.forms import error, web
from tests.helpers.puppet import until
from tests.helpers.secrets import KNOWN
from tests.helpers.service import client, ending, service, service_before

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import httpx2
    from websockets.asyncio.client import ClientConnection

    from speechbridge.server.run import Server

KEY, LINE = make_key("erin")
KNOWN.add(KEY)
PATH = f"{REALTIME}?intent=transcription&model=whatever"
SECOND = bytes(48000)  # of PCM at 24 kHz
NO_VAD = {"type": "transcription", "audio": {"input": {"turn_detection": None}}}


def counts(audio: Iterator[bytes]) -> Iterator[str]:
    """An engine that hears a word in each session, and says at its end how many bytes there were."""
    size = 0
    for chunk in audio:
        if not size:
            yield Partial(0.25, 0.5, (Element("hm"),)).encode()
        size += len(chunk)
    word = Element(f"{size} bytes", "text", 0.25, 1.0, 1.0)
    yield Final(0.25, 1.0, (word, Element(".", "punct"))).encode()


class Client:
    """A client that sends events and reads them."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.events: list[dict[str, Any]] = []

    async def send(self, kind: str, **given: Any) -> None:
        await self.socket.send(json.dumps({"type": kind, **given}))

    async def append(self, audio: bytes) -> None:
        await self.send(APPEND, audio=base64.b64encode(audio).decode())

    async def until(self, kind: str) -> dict[str, Any]:
        """Read on to an event whose type ends so."""
        while True:
            self.events.append(json.loads(await self.socket.recv()))
            assert self.events[-1]["event_id"].startswith("event_")
            if self.events[-1]["type"].endswith(kind):
                return self.events[-1]

    def kinds(self) -> list[str]:
        """Return the types of what was read since the last call."""
        found, self.events = [event["type"].rpartition(".")[2] for event in self.events], []
        return found


@asynccontextmanager
async def connected(server: Server, path: str = PATH, **options: Any) -> AsyncIterator[Client]:
    async with client(server, path, **options) as socket:
        made = Client(socket)
        assert (await made.until(""))["type"] == "session.created"
        made.events.clear()
        yield made


async def test_each_commit_gives_one_item_and_any_number_follow() -> None:
    async with service(counts) as server, connected(server) as on:
        await on.send(UPDATE, session=NO_VAD)
        ids = []
        for seconds in (1, 2, 3):
            for _ in range(seconds):
                await on.append(SECOND)
            await on.send(COMMIT)
            completed = await on.until("completed")
            assert completed["transcript"] == f"{seconds * 48000} bytes."
            assert completed["usage"]["seconds"] == seconds
            ids.append(completed["item_id"])
        assert len(set(ids)) == 3
        assert on.kinds() == ["updated", *["committed", "added", "done", "delta", "completed"] * 3]
        assert server.sessions.statistics().ended["completed"] == 3


async def test_an_empty_commit_is_an_error_and_the_connection_goes_on() -> None:
    async with service(counts) as server, connected(server) as on:
        await on.send(COMMIT, event_id="mine")
        told = (await on.until("error"))["error"]
        assert (told["code"], told["event_id"]) == ("input_audio_buffer_commit_empty", "mine")
        await on.append(SECOND)
        await on.send(COMMIT)
        await on.until("completed")
        await on.send(COMMIT)
        await on.until("error")


async def test_what_is_sent_at_once_is_answered_in_order() -> None:
    """Nothing waits for an answer; audio comes while a commit is still answered."""
    async with service(counts) as server, connected(server) as on:
        await on.send(UPDATE, session=NO_VAD)
        for nth in range(1, 6):
            await on.append(bytes(4800 * nth))
            await on.send(COMMIT)
        for nth in range(1, 6):
            assert (await on.until("completed"))["transcript"] == f"{4800 * nth} bytes."


async def test_events_that_are_not_understood_are_told_and_the_connection_lives() -> None:
    async with service(counts) as server, connected(server) as on:
        for wrong in (
            "no JSON",
            "[]",
            '{"type": "response.create"}',
            '{"type": "session.update", "session": {"x": 1}}',
        ):
            await on.socket.send(wrong)
            told = (await on.until("error"))["error"]
            assert told["type"] == "invalid_request_error"
            assert told["message"]
        await on.socket.send(b'{"type": "input_audio_buffer.clear"}')
        await on.until("cleared")


async def test_what_is_cleared_is_not_transcribed() -> None:
    async with service(counts) as server, connected(server) as on:
        await on.send(UPDATE, session=NO_VAD)
        await on.append(SECOND)
        await on.send(CLEAR)
        await on.append(bytes(480))
        await on.send(COMMIT)
        assert (await on.until("completed"))["transcript"] == "480 bytes."
        assert "cleared" in on.kinds()


async def test_audio_before_the_update_has_the_default_format_and_audio_after_it_the_new_one() -> None:
    asked = []

    def start(audio: Iterator[bytes]) -> Iterator[str]:
        asked.append(sum(map(len, audio)))
        yield Final(0.0, 1.0, (Element("word"),)).encode()

    async with service(start) as server, connected(server) as on:
        await on.append(SECOND)
        await on.send(UPDATE, session={"audio": {"input": {"format": {"type": "audio/pcmu"}}}})
        await on.until("completed")
        await on.append(bytes([255]) * 8000)
        await on.send(COMMIT)
        await on.until("completed")
    assert asked == [48000, 32000]  # 24 kHz as it is, and mu-law decoded to 16 kHz


async def test_the_first_partial_begins_an_item_and_the_final_ends_it() -> None:
    heard = asyncio.Event()
    loop = asyncio.get_running_loop()

    def start(audio: Iterator[bytes]) -> Iterator[str]:
        next(audio)
        yield Partial(0.25, 0.5, (Element("hello"),)).encode()
        loop.call_soon_threadsafe(heard.set)
        next(audio)
        yield Final(0.25, 1.5, (Element("Hello", confidence=0.9), Element(".", "punct"))).encode()
        yield from ()
        for _ in audio:
            pass

    async with service(start) as server, connected(server) as on:
        await on.send(UPDATE, session={"type": "transcription", "include": [LOGPROBS]})
        await on.append(SECOND)
        assert (await on.until("speech_started"))["audio_start_ms"] == 250
        await heard.wait()
        await on.append(SECOND)
        completed = await on.until("completed")
        assert [token["token"] for token in completed["logprobs"]] == ["Hello."]
        assert on.kinds()[2:] == ["speech_stopped", "committed", "added", "done", "delta", "completed"]


async def test_the_upstreams_refusal_is_an_error_and_a_close() -> None:
    script = (Greet(), Wait(messages=1), End(4003, "no credits"))
    async with service_before(Scripted(script)) as server, connected(server) as on:
        await on.append(SECOND)
        assert (await on.until("error"))["error"]["code"] == "insufficient_quota"
        assert (await ending(on.socket))[1] == Close(4003, "no credits")


async def test_a_drain_is_told_to_clients_that_speak_and_that_wait() -> None:
    async with service(counts) as server, connected(server) as speaks, connected(server) as waits:
        await speaks.append(SECOND)
        await speaks.until("speech_started")
        server.stop()
        for on in (speaks, waits):
            assert (await on.until("error"))["error"]["code"] == "shutting_down"
            assert (await ending(on.socket))[1].code == 4010
        assert "completed" in speaks.kinds()


@pytest.mark.parametrize("query", ["intent=translation", "intent=transcription&call_id=rtc_1"])
async def test_other_uses_are_refused_by_name(query: str) -> None:
    async with service(counts) as server, client(server, f"{REALTIME}?{query}") as socket:
        messages, close = await ending(socket)
        assert json.loads(messages[0])["error"]["message"] == close.reason
        assert close.code == 4002


async def test_a_client_that_leaves_ends_its_session() -> None:
    async with service(counts) as server:
        async with connected(server) as on:
            await on.append(SECOND)
            await on.until("speech_started")
        await until(lambda: server.sessions.statistics().ended["left"] == 1)


# ---- keys and secrets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"additional_headers": {"Authorization": f"Bearer {KEY}"}},
        {"subprotocols": ["realtime", f"openai-insecure-api-key.{KEY}", "openai-beta.realtime-v1"]},
    ],
    ids=["header", "subprotocol"],
)
async def test_a_key_comes_as_openais_clients_send_it(options: dict[str, Any]) -> None:
    async with service(counts, api_keys=LINE) as server, connected(server, **options) as on:
        assert on.socket.subprotocol == (options["subprotocols"][0] if "subprotocols" in options else None)


@pytest.mark.parametrize("key", ["", "sk-wrong"])
async def test_without_a_key_it_is_an_error_and_a_close(key: str) -> None:
    subprotocols = ["realtime", f"openai-insecure-api-key.{key}"]
    async with (
        service(counts, api_keys=LINE) as server,
        client(server, PATH, subprotocols=subprotocols) as socket,
    ):
        messages, close = await ending(socket)
        assert json.loads(messages[0])["error"]["code"] == "invalid_api_key"
        assert close.code == 4001


async def make_secret(server: Server, key: str = KEY, **body: Any) -> httpx2.Response:
    async with web(server, authorization=f"Bearer {key}") as posting:
        made = await posting.post(CLIENT_SECRETS, json=body)
    KNOWN.add(made.json().get("value", KEY))
    return made


async def test_a_secret_connects_everywhere_and_brings_its_settings() -> None:
    async with service(counts, api_keys=LINE) as server:
        made = (await make_secret(server, session=NO_VAD)).json()
        assert made["session"]["audio"]["input"]["turn_detection"] is None
        subprotocols: list[Any] = ["realtime", f"openai-insecure-api-key.{made['value']}"]
        async with client(server, PATH, subprotocols=subprotocols) as socket:
            on = Client(socket)
            created = await on.until("created")
            assert created["session"]["audio"]["input"]["turn_detection"] is None
            await on.append(SECOND)
            await on.send(COMMIT)
            await on.until("completed")
        for path in ("/ws_a", "/ws"):
            async with client(server, f"{path}?access_token={made['value']}") as socket:
                await socket.send("EOS")
                assert await socket.recv()


ASKED = {"expires_after": {"anchor": "created_at", "seconds": 30}}


@pytest.mark.parametrize(("asked", "lives"), [({}, 600), (ASKED, 30)])
async def test_a_secret_says_when_it_expires(asked: dict[str, Any], lives: int) -> None:
    async with service(counts, api_keys=LINE) as server:
        before = int(time.time())
        made = (await make_secret(server, **asked)).json()
    assert before + lives <= made["expires_at"] <= time.time() + lives
    assert made["session"]["expires_at"] == made["expires_at"]


async def test_a_secret_does_not_make_another() -> None:
    async with service(counts, api_keys=LINE) as server:
        value = (await make_secret(server)).json()["value"]
        refused = await make_secret(server, value)
        assert refused.status_code == 401
        assert "client secret" in refused.json()["error"]["message"]
        assert (await make_secret(server, "wrong")).status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        {"expires_after": {"seconds": 9}},
        {"expires_after": {"seconds": 7201}},
        {"expires_after": {"seconds": True}},
        {"expires_after": {"anchor": "now"}},
        {"expires_after": 1},
        {"session": {"type": "realtime"}},
        {"session": []},
        {"other": 1},
    ],
)
async def test_what_a_secret_cannot_have_is_refused_by_name(body: dict[str, Any]) -> None:
    async with service(counts) as server:
        refused = await make_secret(server, **body)
        assert refused.status_code == 400
        assert error(refused)["param"]


async def test_a_request_for_a_secret_is_bounded() -> None:
    async with service(counts) as server:
        assert (await make_secret(server, session={"x": "x" * 5000})).status_code == 413


async def test_a_long_append_is_heard_whole() -> None:
    """A mebibyte of audio in one event: more than a message of other endpoints may have."""
    async with service(counts) as server, connected(server) as on:
        await on.send(UPDATE, session=NO_VAD)
        await on.append(bytes(2**20))
        await on.send(COMMIT)
        assert (await on.until("completed"))["transcript"] == f"{2**20} bytes."


@pytest.mark.parametrize("fragments", [1, 3])
async def test_an_append_that_is_too_long_is_an_error_that_names_the_limit_and_a_close(fragments: int) -> None:
    async with service(counts, max_message_bytes=2**10) as server, connected(server) as on:
        await on.append(bytes(960))
        event = json.dumps({"type": APPEND, "audio": "A" * 4096})
        size = -(-len(event) // fragments)
        await on.socket.send([event[at : at + size] for at in range(0, len(event), size)])
        told = (await on.until("error"))["error"]
        assert (told["type"], told["code"]) == ("invalid_request_error", "event_too_large")
        assert "4096 bytes" in told["message"]
        assert (await ending(on.socket))[1] == Close(1009, told["message"])
        assert "completed" in on.kinds()


async def test_an_idle_connection_is_told_why_it_is_closed() -> None:
    async with service(counts, idle_seconds=0.05) as server, connected(server) as on:
        told = (await on.until("error"))["error"]
        assert (await ending(on.socket))[1].reason == told["message"]
