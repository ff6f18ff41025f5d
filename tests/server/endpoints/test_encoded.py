"""Compressed and telephone audio through the whole service, up to the SDK."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from speechbridge.engines import Capabilities
from speechbridge.engines.function import function_engine
from speechbridge.protocol.close import END_OF_INPUT, Close
from speechbridge.protocol.messages import Element, Final
from speechbridge.protocol.request import PATH, ContentType, StreamRequest
from speechbridge.server import intake
from tests.helpers import clip
from tests.helpers.decoded import chunks, decoded, likeness
from tests.helpers.encoded import EXACT_WEBM, FORMS, OGG, WEBM, Form, reading
from tests.helpers.puppet import until
from tests.helpers.service import PATIENCE, client, ending, service, service_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from websockets.asyncio.client import ClientConnection

    from speechbridge.engines import Engine
    from speechbridge.server.run import Server

pytestmark = pytest.mark.slow  # each decodes two seconds of speech, live

SAID = clip.pcm(seconds=2.0)
CHOSEN = [
    WEBM,
    EXACT_WEBM,
    OGG,
    FORMS[10],
    FORMS[11],
    FORMS[18],
    FORMS[20],
    FORMS[23],
    FORMS[27],
    FORMS[34],
    FORMS[36],
    FORMS[39],
]


class Listener:
    """An SDK that keeps what it is given, and says in the end how much that was."""

    def __init__(self) -> None:
        self.heard = b""
        self.requests: list[StreamRequest] = []
        self.may_hear = threading.Event()
        self.may_hear.set()

    def start(self, audio: Iterator[bytes], request: StreamRequest) -> Iterator[str]:
        self.requests.append(request)
        if len(self.requests) == 1:
            self.may_hear.wait(PATIENCE)
        for chunk in audio:
            self.heard += chunk
        yield Final(0.0, 1.0, (Element(f"{len(self.heard)} bytes"),)).encode()

    def engine(self, takes: Capabilities) -> Engine:
        return replace(function_engine(self.start), capabilities=takes)


@asynccontextmanager
async def listening(takes: Capabilities | None = None) -> AsyncIterator[tuple[Server, Listener]]:
    listener = Listener()
    async with service_of(listener.engine(takes or Capabilities())) as server:
        yield server, listener


def tone(rate: int, channels: int, seconds: float = 1.0) -> bytes:
    samples = 8000 * np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate)
    return np.repeat(samples.astype("<i2"), channels).tobytes()


def stream(form: Form | None) -> str:
    return PATH if form is None else f"{PATH}?content_type={quote(form.media)}"


async def transcribed(server: Server, path: str, pieces: list[bytes]) -> Close:
    async with client(server, path) as socket:
        for piece in pieces:
            await socket.send(piece)
        await socket.send("EOS")
        _, close = await ending(socket)
    return close


@pytest.mark.parametrize("form", CHOSEN, ids=str)
async def test_an_sdk_gets_samples_of_whatever_a_client_sends(form: Form) -> None:
    async with listening() as (server, listener):
        close = await transcribed(server, stream(form), chunks(reading(form, 2.0), 999))
    assert close == Close(1000, END_OF_INPUT)
    assert [request.content_type for request in listener.requests] == [ContentType.raw()]
    assert listener.heard == decoded([reading(form, 2.0)], ContentType.parse(form.media))
    assert likeness(SAID, listener.heard) > 0.95


@pytest.mark.parametrize("path", [PATH, "/ws_a"])
@pytest.mark.parametrize("form", [WEBM, OGG, FORMS[20]], ids=str)
async def test_where_a_client_names_no_type_the_first_bytes_tell(path: str, form: Form) -> None:
    async with listening() as (server, listener):
        data = reading(form, 2.0)
        close = await transcribed(server, path, [*chunks(data[:20], 1), *chunks(data[20:], 500)])
    assert close.code == 1000
    assert listener.heard == decoded([reading(form, 2.0)])


@pytest.mark.parametrize("begun", [b"", b"\xff", b"\xff\xfb\x90\x64", b"OggT", b"RIFFxxxxWAVX", b"\0\0\0\x18fty"])
async def test_on_ws_a_what_is_no_container_is_raw_samples(begun: bytes) -> None:
    async with listening() as (server, listener):
        close = await transcribed(server, "/ws_a", [*chunks(begun, 1), SAID[:1000], SAID[1000:]])
        assert close.code == 1000
        assert listener.heard == begun + SAID
        assert (await transcribed(server, "/ws_a", [begun])).code == 1000
        assert listener.heard == begun + SAID + begun


@pytest.mark.parametrize("form", [FORMS[39], FORMS[36], WEBM], ids=str)
async def test_on_ws_a_a_query_may_name_the_type(form: Form) -> None:
    """Mu-law was heard as 16 kHz samples there."""
    async with listening() as (server, listener):
        close = await transcribed(server, f"/ws_a?content_type={quote(form.media)}", chunks(reading(form, 2.0), 999))
        assert close.code == 1000
        assert listener.heard == decoded([reading(form, 2.0)], ContentType.parse(form.media))
        close = await transcribed(server, "/ws_a?content_type=application/octet-stream", [SAID])
        assert close.code == 1000
        async with client(server, "/ws_a?content_type=audio/midi") as socket:
            _, close = await ending(socket)
        assert close.code == 4002


@pytest.mark.parametrize(
    ("form", "path", "opened", "closed"),
    [
        (WEBM, "/ws_a", str(ContentType.raw()), "audio/webm"),
        (WEBM, PATH, ContentType.UNDECLARED, "audio/webm"),
        (OGG, stream(WEBM), "audio/webm", "audio/ogg"),
        (None, "/ws_a", str(ContentType.raw()), str(ContentType.raw())),
    ],
)
async def test_the_log_tells_what_the_audio_is_once_its_first_bytes_have_told(
    form: Form | None, path: str, opened: str, closed: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "speechbridge.server.session")
    async with listening() as (server, _):
        assert (await transcribed(server, path, [reading(form, 0.5) if form else SAID[:3200]])).code == 1000
    first, last = (record for record in caplog.records if record.name == "speechbridge.server.session")
    assert (first.__dict__["content_type"], last.__dict__["content_type"]) == (opened, closed)


async def test_a_flow_of_ws_decodes_as_well() -> None:
    async with listening() as (server, listener), client(server, "/ws") as socket:
        for _ in range(2):
            await socket.send("audio")
            for piece in chunks(reading(EXACT_WEBM, 2.0), 999):
                await socket.send(piece)
            await socket.send("EOS")
            assert json.loads(await socket.recv())["type"] == "final"
            assert await socket.recv() == "Audio transcribed"
    assert listener.heard == SAID + SAID


@pytest.mark.parametrize(
    "media", ["", "audio/webm", "audio/ogg", "audio/mp4", "audio/mpeg", "audio/aac", "audio/flac", "audio/wav"]
)
async def test_bytes_that_are_nothing_are_refused_at_once(media: str) -> None:
    begun = time.monotonic()
    async with listening() as (server, listener), client(server, f"{PATH}?content_type={media}") as socket:
        await socket.send(random.Random(1).randbytes(20_000))
        _, close = await ending(socket)  # and nothing more comes
    assert close.code == 4002
    assert close.reason
    assert time.monotonic() - begun < PATIENCE
    assert not listener.heard


async def test_a_stream_that_gives_no_sound_is_refused_in_time_and_its_words_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intake, "CHECK_SECONDS", 0.01)
    monkeypatch.setattr("speechbridge.codecs.decoder.STALL_SECONDS", 0.05)
    data = reading(WEBM, 2.0)
    async with listening() as (server, listener), client(server, stream(WEBM)) as socket:
        await socket.send(data)
        await until(lambda: listener.heard)
        await socket.send(b"\xa3" + (2**17 | 1 << 56).to_bytes(8, "big") + bytes(2**15))  # the rest does not come
        messages, close = await ending(socket)
    assert close.code == 4002
    assert "nothing in it can be heard" in close.reason
    assert [json.loads(message)["type"] for message in messages] == ["connected", "final"]


async def test_a_stream_cut_in_the_middle_and_then_ended_is_heard_up_to_there() -> None:
    async with listening() as (server, listener):
        data = reading(WEBM, 2.0)
        close = await transcribed(server, stream(WEBM), [data[: len(data) * 2 // 3]])
        assert close == Close(1000, END_OF_INPUT)
        assert 32000 < len(listener.heard) < len(SAID)


async def test_a_client_that_leaves_is_heard_up_to_there() -> None:
    async with listening() as (server, listener):
        async with client(server, stream(WEBM)) as socket:
            await socket.send(reading(WEBM, 2.0))
        await until(lambda: server.sessions.statistics().ended["left"] == 1)
    assert listener.heard == decoded([reading(WEBM, 2.0)])
    assert server.sessions.statistics().totals.received == pytest.approx(2.0, abs=0.1)


async def test_a_drain_hears_what_was_sent() -> None:
    async with listening() as (server, listener), client(server, stream(WEBM)) as socket:
        await socket.send(reading(WEBM, 2.0))
        await until(lambda: listener.heard)
        await server.sessions.drain()
        messages, close = await ending(socket)
    assert close.code == 4010
    assert json.loads(messages[-1])["type"] == "final"


async def test_a_drain_hears_first_bytes_that_tell_nothing_yet() -> None:
    async with listening() as (server, listener), client(server, "/ws_a") as socket:
        await socket.send(b"OggS")
        await until(lambda: server.sessions.statistics().totals.received_bytes == 4)
        await server.sessions.drain()
        _, close = await ending(socket)
    assert close.code == 4010
    assert listener.heard == b"OggS"


async def test_an_sdk_that_hears_nothing_holds_up_its_own_client_only() -> None:
    """And what waits is bounded: the client's messages back up into its socket."""
    async with listening() as (server, listener):
        listener.may_hear.clear()
        async with client(server, stream(FORMS[27])) as socket:
            await _is_held_up(socket, server)
            listener.may_hear.set()


async def _is_held_up(socket: ClientConnection, server: Server) -> None:
    sending = asyncio.create_task(_send_for_ever(socket))
    await until(lambda: server.sessions.statistics().bridges and server.sessions.statistics().bridges[0].sent >= 32)
    assert (await transcribed(server, stream(None), [reading(WEBM, 0.5)])).code == 1000
    received = server.sessions.statistics().totals.received_bytes
    assert received < 16 * 2**20
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)


async def _send_for_ever(socket: ClientConnection) -> None:
    head = reading(FORMS[27], 0.5)
    while True:
        await socket.send(head)  # a WAV in each message


async def test_a_decoder_lives_on_while_its_client_is_away() -> None:
    """The client goes on with the byte after the last one received, in the middle of a packet."""
    data, dice = reading(EXACT_WEBM, 2.0), random.Random(2)
    position, query = 0, f"content_type={quote(EXACT_WEBM.media)}&resume=true"
    async with listening() as (server, listener):
        for stop in (*sorted(dice.sample(range(len(data)), 4)), len(data)):
            async with client(server, f"{PATH}?{query}") as socket:
                greeting = json.loads(await socket.recv())
                position = greeting["position"]
                query = f"resume={greeting['resume']}&finals=0"
                for piece in chunks(data[position:stop], 777):
                    await socket.send(piece)
                if stop == len(data):
                    await socket.send("EOS")
                    _, close = await ending(socket)
                else:
                    socket.transport.abort()
    assert close == Close(1000, END_OF_INPUT)
    assert listener.heard == SAID


@pytest.mark.parametrize("sample", ["S16LE", "F32LE"])
@pytest.mark.parametrize("form", [WEBM, OGG, FORMS[11], FORMS[18], FORMS[20], FORMS[23]], ids=str)
@pytest.mark.parametrize("size", [7, 10_000])
async def test_raw_samples_that_are_a_container_are_refused_with_the_cure(form: Form, sample: str, size: int) -> None:
    kind = f"audio/x-raw;layout=interleaved;rate=16000;format={sample};channels=1"
    async with listening() as (server, _), client(server, f"{PATH}?content_type={quote(kind)}") as socket:
        with suppress(ConnectionClosed):
            for piece in chunks(reading(form, 2.0)[:3000], size):
                await socket.send(piece)
        _, close = await ending(socket)
    assert close.code == 4002
    assert f"send content_type={form.media}" in close.reason


@pytest.mark.parametrize(
    ("kind", "takes"),
    [
        (ContentType.raw(48000, 1), Capabilities(rates=range(8000, 16001))),
        (ContentType.raw(16000, 2), Capabilities(channels=1)),
        (ContentType.raw(16000, 10), Capabilities(channels=1)),
        (ContentType.raw(44100, 2), Capabilities(rates=range(16000, 16001), channels=1)),
    ],
)
async def test_audio_that_an_engine_does_not_take_is_converted(kind: ContentType, takes: Capabilities) -> None:
    pcm, path = tone(kind.rate or 0, kind.channels or 0), f"{PATH}?{StreamRequest(kind).query()}"
    async with listening(takes) as (server, listener):
        assert (await transcribed(server, path, [pcm[:4001], pcm[4001:4002], pcm[4002:]])).code == 1000
    assert listener.requests[0].content_type == ContentType.raw()
    heard = np.frombuffer(listener.heard, "<i2").astype(float)
    assert len(heard) == pytest.approx(16000, abs=20)
    crossings = np.count_nonzero(np.diff(np.signbit(heard)))
    assert crossings == pytest.approx(880, abs=6)  # it still is 440 Hz


async def test_a_container_that_is_called_16_bit_samples_is_refused_where_these_are_converted() -> None:
    path = f"{PATH}?{StreamRequest(ContentType.raw(48000)).query()}"
    async with listening(Capabilities(rates=range(16000, 16001))) as (server, listener):
        close = await transcribed(server, path, [reading(OGG, 0.5)[:500]])
    assert close.code == 4002
    assert "this is Ogg, not raw samples: send content_type=audio/ogg" in close.reason
    assert not listener.heard


async def test_an_engine_that_takes_a_codec_gets_it_as_it_was_sent() -> None:
    async with listening(Capabilities(decodes=frozenset({"audio/x-flac"}))) as (server, listener):
        await transcribed(server, stream(FORMS[23]), chunks(reading(FORMS[23], 2.0), 999))
    assert [str(request.content_type) for request in listener.requests] == ["audio/x-flac"]
    assert listener.heard == reading(FORMS[23], 2.0)


async def test_an_sdk_that_ends_early_ends_its_decoder() -> None:
    def deaf(audio: Iterator[bytes]) -> Iterator[str]:
        for _ in audio:
            raise ValueError("enough")
        yield ""

    async with service(deaf) as server, client(server, stream(WEBM)) as socket:
        with suppress(ConnectionClosed):
            while True:
                await socket.send(reading(WEBM, 2.0))
        assert socket.close_code == 1011


async def test_without_a_thread_for_the_decoder_a_stream_is_refused() -> None:
    async with listening() as (server, _):
        slots = [server.sessions.decoders.try_acquire() for _ in range(server.sessions.decoders.total)]
        assert all(slots)
        async with client(server, stream(WEBM)) as socket:
            _, close = await ending(socket)
        assert close.code == 4029
