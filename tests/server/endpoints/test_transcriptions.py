"""Whole files over HTTP: how they are read, answered, and refused."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from speechbridge.engines.function import function_engine
from speechbridge.protocol.messages import Element, Final
from speechbridge.protocol.request import ContentType
from speechbridge.protocol.transcriptions import PATH
from speechbridge.server import body
from tests.helpers import clip
from tests.helpers.decoded import likeness
from tests.helpers.encoded import EXACT_WEBM, FORMS, OGG, WEBM, Form, encoded, reading
from tests.helpers.forms import MODEL, TYPE, audio, error, form, part, post, web
from tests.helpers.puppet import PATIENCE, until
from tests.helpers.service import service, service_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from speechbridge.engines import Engine
    from speechbridge.protocol.request import StreamRequest
    from speechbridge.server.run import Server
    from tests.helpers.forms import Part

pytestmark = pytest.mark.slow  # each decodes speech

SAID = clip.pcm(seconds=2.0)
WAV = reading(Form("audio/x-wav", "wav", "pcm_s16le", exact=True), 2.0)
INDEX_LAST = Form("audio/mp4", "mp4", "aac", 44100, sample="fltp", options={"movflags": "rtphint"})
FIRST = Final(0.5, 1.5, (Element("Hello", ts=0.5, end_ts=1.0, confidence=0.5), Element(", ", "punct"), Element("you")))
SECOND = Final(2.0, 3.0, (Element("There", ts=2.0, end_ts=3.0, confidence=1.0), Element(".", "punct")))


class Sdk:
    """An SDK that keeps what it hears. It says one final when it is told to, another at the end."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.requests: list[StreamRequest] = []
        self.may_hear, self.may_end, self.has_left = threading.Event(), threading.Event(), threading.Event()
        self.may_hear.set()
        self.may_end.set()

    def start(self, audio: Iterator[bytes], request: StreamRequest) -> Iterator[str]:
        self.requests.append(request)
        try:
            self.may_hear.wait(PATIENCE)
            for chunk in audio:
                self.heard += chunk
            yield json.dumps({"type": "partial", "ts": 0, "end_ts": 1, "elements": [{"type": "text", "value": "hell"}]})
            yield FIRST.encode()
            self.may_end.wait(PATIENCE)
            yield SECOND.encode()
        finally:
            self.has_left.set()

    @property
    def engine(self) -> Engine:
        return replace(function_engine(self.start))


@pytest.fixture
def sdk() -> Sdk:
    return Sdk()


# ---- how a file is read ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [WEBM, EXACT_WEBM, OGG, FORMS[11], FORMS[13], FORMS[20], FORMS[23]], ids=str)
@pytest.mark.parametrize("is_first", [True, False])
async def test_any_file_is_heard_whatever_the_order_of_the_fields(form: Form, is_first: bool, sdk: Sdk) -> None:  # noqa: FBT001
    parts = audio(reading(form, 2.0))
    async with service_of(sdk.engine) as server:
        response = await post(server, parts[::-1] if is_first else parts)
    assert response.json()["text"] == "Hello, you There."
    assert [request.content_type for request in sdk.requests] == [ContentType.raw()]
    assert likeness(SAID, bytes(sdk.heard)) > 0.95


async def test_a_file_is_decoded_as_it_comes_and_nothing_is_stored(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.TemporaryFile", None)
    data = form(*audio(reading(EXACT_WEBM, 14.0)))
    begun = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield data[:-1000]
        await begun.wait()
        yield data[-1000:]

    async with service_of(sdk.engine) as server, web(server) as client:
        sending = asyncio.create_task(client.post(PATH, content=pieces(), headers={"content-type": TYPE}))
        await until(lambda: len(sdk.heard) > 300_000)
        assert server.sessions.alive == 1
        begun.set()
        assert (await sending).status_code == 200
    assert bytes(sdk.heard) == clip.pcm(seconds=14.0)


@pytest.mark.parametrize(
    "form",
    [
        INDEX_LAST,
        Form("", "aiff", "pcm_s16be"),
        Form("", "caf", "pcm_s16le"),
        Form("", "wav", "adpcm_ima_wav", sample="s16p"),
        Form("", "matroska", "ac3", 44100, sample="fltp"),
        Form("", "mpegts", "aac", 44100, sample="fltp"),
        Form("", "flv", "aac", 44100, sample="fltp"),
        Form("", "au", "pcm_s16be"),
        Form("", "tta", "tta"),
    ],
    ids=str,
)
async def test_what_our_readers_do_not_read_is_stored_and_read_by_ffmpeg(form: Form, sdk: Sdk, tmp_path: Path) -> None:
    async with service_of(sdk.engine, files_dir=tmp_path) as server:
        response = await post(server, audio(encoded(SAID, form, seekable=True)))
    assert response.json()["text"] == "Hello, you There."
    assert likeness(SAID, bytes(sdk.heard)) > 0.9
    assert list(tmp_path.iterdir()) == []  # it had no name


async def test_a_file_is_read_at_the_pace_of_the_engine(sdk: Sdk) -> None:
    """Otherwise an hour of it would wait in memory."""
    sdk.may_hear.clear()
    data, sent = form(*audio(WAV + bytes(16 * 2**20))), 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        for start in range(0, len(data), 2**16):
            yield data[start : start + 2**16]
            sent = start

    async with service_of(sdk.engine) as server, web(server) as client:
        sending = asyncio.create_task(client.post(PATH, content=pieces(), headers={"content-type": TYPE}))
        await until(lambda: sdk.requests)
        last = -1
        while last != sent:  # until it stands still
            last = sent
            await asyncio.sleep(0.3)
        assert sent < 12 * 2**20  # most of it in the buffers of the kernel
        sdk.may_hear.set()
        assert (await sending).status_code == 200
    assert len(sdk.heard) == len(SAID) + 16 * 2**20


async def test_the_language_is_passed_on(sdk: Sdk) -> None:
    async with service_of(sdk.engine) as server:
        await post(server, audio(WAV, ("language", "de")))
        await post(server, [("file", WAV), MODEL, ("language", "fr")])
        await post(server, audio(WAV))
        long = reading(EXACT_WEBM, 15.0)  # so that what follows it does not come with its beginning
        late = await post(server, [*audio(long), ("language", "es")])
        same = await post(server, [*audio(WAV), ("language", "en"), ("response_format", "text")])
    assert [request.options for request in sdk.requests[:3]] == [{"language": "de"}, {"language": "fr"}, {}]
    assert (late.status_code, error(late)["param"]) == (400, "language")
    assert same.text == "Hello, you There.\n"


# ---- how it is answered ----------------------------------------------------------------------------------------------


async def test_each_format_has_its_form(sdk: Sdk) -> None:
    async with service_of(sdk.engine) as server:
        answers = {
            name: await post(server, audio(WAV, ("response_format", name)))
            for name in ("json", "text", "srt", "vtt", "verbose_json")
        }
    assert answers["json"].json() == {
        "text": "Hello, you There.",
        "usage": {"type": "duration", "seconds": 2},
    }
    assert answers["text"].text == "Hello, you There.\n"
    assert answers["srt"].text.startswith("1\n00:00:00,500 --> ")
    assert answers["vtt"].text.startswith("WEBVTT\n\n00:00:00.500 --> ")
    verbose = answers["verbose_json"].json()
    assert {name: verbose[name] for name in ("task", "language", "duration", "text")} == {
        "task": "transcribe",
        "language": "english",
        "duration": 2.0,
        "text": "Hello, you There.",
    }
    assert [(one["id"], one["start"], one["end"], one["text"]) for one in verbose["segments"]] == [
        (0, 0.5, 1.5, "Hello, you"),
        (1, 2.0, 3.0, " There."),
    ]
    assert "words" not in verbose


async def test_words_and_logprobs_come_where_they_are_asked_for(sdk: Sdk) -> None:
    granular = ("response_format", "verbose_json"), ("timestamp_granularities[]", "word")
    async with service_of(sdk.engine) as server:
        words = (await post(server, audio(WAV, *granular))).json()
        both = (await post(server, audio(WAV, *granular, ("timestamp_granularities[]", "segment")))).json()
        logprobs = (await post(server, audio(WAV, ("include[]", "logprobs")))).json()["logprobs"]
    assert "segments" not in words
    assert words["words"] == [
        {"word": "Hello", "start": 0.5, "end": 1.0},
        {"word": "you", "start": 0.5, "end": 1.5},
        {"word": "There", "start": 2.0, "end": 3.0},
    ]
    assert both["words"] == words["words"]
    assert len(both["segments"]) == 2
    assert [one["token"] for one in logprobs] == ["Hello, ", "you", " There."]
    assert [round(one["logprob"], 3) for one in logprobs] == [-0.693, 0.0, 0.0]
    assert bytes(logprobs[0]["bytes"]) == b"Hello, "


async def test_events_come_while_the_engine_still_works(sdk: Sdk) -> None:
    sdk.may_end.clear()
    async with (
        service_of(sdk.engine) as server,
        web(server) as client,
        client.stream(
            "POST", PATH, content=form(*audio(WAV, ("stream", "true"))), headers={"content-type": TYPE}
        ) as response,
    ):
        assert response.headers["content-type"] == "text/event-stream"
        events = []
        async for line in response.aiter_lines():
            if line:
                events.append(json.loads(line.removeprefix("data: ")))
                sdk.may_end.set()
    assert events == [
        {"type": "transcript.text.delta", "delta": "Hello, you"},
        {"type": "transcript.text.delta", "delta": " There."},
        {"type": "transcript.text.done", "text": "Hello, you There."},
    ]


async def test_processors_change_what_is_answered(sdk: Sdk) -> None:
    async with service_of(sdk.engine, processors="tests.server.endpoints.test_transcriptions:shout") as server:
        response = await post(server, audio(WAV, ("response_format", "text")))
    assert response.text == "HELLO, YOU THERE.\n"


def shout(message: str) -> str:
    return message.replace("Hello", "HELLO").replace("you", "YOU").replace("There", "THERE")


async def test_a_file_counts_as_a_session(sdk: Sdk) -> None:
    async with service_of(sdk.engine) as server:
        await post(server, audio(WAV))
        await post(server, audio(bytes(5000)))
        statistics = server.sessions.statistics()
    assert statistics.ended["completed"] == 1
    assert statistics.totals.received == 2.0


# ---- what is refused -------------------------------------------------------------------------------------------------

TWO_FILES: Sequence[Part] = [MODEL, ("file", WAV), ("file", WAV)]
WRONG: dict[str, tuple[Sequence[Part], str]] = {
    "no file": ([MODEL], "file"),
    "an empty file": (audio(b""), "file"),
    "text": (audio(b"Dear all, " * 1000), "file"),
    "a playlist": (audio(b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n"), "file"),
    "random bytes": (audio(bytes(range(256)) * 100), "file"),
    "the beginning of a WebM": (audio(reading(WEBM, 2.0)[:100]), "file"),
    "two files": (TWO_FILES, "file"),
    "a format that nobody knows": (audio(WAV, ("response_format", "docx")), "response_format"),
    "diarization": (audio(WAV, ("response_format", "diarized_json")), "response_format"),
    "subtitles as events": (audio(WAV, ("stream", "true"), ("response_format", "srt")), "response_format"),
    "letters as granularities": (audio(WAV, ("timestamp_granularities[]", "letter")), "timestamp_granularities"),
    "a language that is none": (audio(WAV, ("language", "en\r\nX: y")), "language"),
    "a stream that is perhaps one": (audio(WAV, ("stream", "perhaps")), "stream"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_is_wrong_is_400_and_named(name: str, sdk: Sdk) -> None:
    parts, param = WRONG[name]
    async with service_of(sdk.engine) as server:
        response = await post(server, parts)
        assert response.status_code == 400
        found = error(response)
        assert (found["type"], found["param"]) == ("invalid_request_error", param)
        assert (await post(server, audio(WAV))).status_code == 200


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"{}", "application/json"),
        (b"a=b", "application/x-www-form-urlencoded"),
        (form(*audio(WAV)), "multipart/form-data"),
        (form(*audio(WAV)), f"{TYPE}{'x' * 300}"),
        (form(*audio(WAV))[:-100], TYPE),
        (part(*MODEL), TYPE),
        (b"", TYPE),
        (form(*([("x", "y")] * 200)), TYPE),
        (form(*audio(WAV)).replace(b"Content-Disposition", b"Content Disposition"), TYPE),
    ],
)
async def test_what_is_no_form_is_400(content: bytes, kind: str, sdk: Sdk) -> None:
    async with service_of(sdk.engine) as server, web(server) as client:
        response = await client.post(PATH, content=content, headers={"content-type": kind})
    assert response.status_code == 400
    assert error(response)["type"] == "invalid_request_error"


@pytest.mark.parametrize("is_live", [True, False])
@pytest.mark.parametrize("says_its_size", [True, False])
async def test_a_file_that_is_too_large_is_413(is_live: bool, says_its_size: bool, sdk: Sdk) -> None:  # noqa: FBT001
    data = form(*audio(WAV + bytes(3_000_000))[:: 1 if is_live else -1])

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 2**16):
            yield data[start : start + 2**16]

    async with service_of(sdk.engine, max_upload_bytes=2**20) as server, web(server) as client:
        content = data if says_its_size else pieces()
        response = await client.post(PATH, content=content, headers={"content-type": TYPE})
        await until(lambda: not server.sessions.alive)
    assert (response.status_code, error(response)["code"]) == (413, "file_too_large")
    assert (not sdk.requests) or (is_live and not says_its_size)


async def test_fields_that_are_too_large_are_413(sdk: Sdk) -> None:
    async with service_of(sdk.engine) as server:
        response = await post(server, audio(WAV, ("prompt", "x" * 2_000_000)))
    assert (response.status_code, error(response)["code"]) == (413, "form_too_large")


async def test_a_body_that_stops_is_408(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "STALL_SECONDS", 0.2)
    monkeypatch.setattr(body, "LINGER_SECONDS", 0.1)
    async with service_of(sdk.engine) as server:
        where = urlsplit(server.url)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        writer.write(
            f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: {TYPE}\r\nContent-Length: 99999\r\n\r\n".encode()
        )
        writer.write(form(*audio(WAV))[:-1000])
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        await until(lambda: not (server.connections or server.sessions.alive))
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_what_the_speech_service_refuses_has_its_status(sdk: Sdk) -> None:
    async with service(None, recognizer_threads=1) as server:
        response = await post(server, audio(WAV, ("language", "fr")))
    assert response.status_code == 400
    assert "language=en" in error(response)["message"]


async def test_one_file_more_than_there_are_streams_is_429(sdk: Sdk) -> None:
    sdk.may_end.clear()
    async with service_of(sdk.engine, max_sessions=1) as server:
        first = asyncio.create_task(post(server, audio(WAV)))
        await until(lambda: server.sessions.alive)
        second = await post(server, audio(WAV))
        sdk.may_end.set()
        assert (await first).status_code == 200
    assert (second.status_code, error(second)["type"]) == (429, "rate_limit_error")


async def test_a_service_that_shuts_down_answers_503(sdk: Sdk) -> None:
    """Whose session was ended early has no transcript: half of one would look like all of it."""
    held = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield form(*audio(WAV))[:-1000]
        await held.wait()
        yield form(*audio(WAV))[-1000:]

    async with service_of(sdk.engine) as server, web(server) as client:
        sending = asyncio.create_task(client.post(PATH, content=pieces(), headers={"content-type": TYPE}))
        await until(lambda: server.sessions.alive)
        draining = asyncio.create_task(server.sessions.drain())
        await until(lambda: not server.sessions.alive)
        later = await post(server, audio(WAV))
        held.set()
        running = await sending
        await draining
    assert (later.status_code, error(later)["code"]) == (503, "shutting_down")
    assert (running.status_code, error(running)["code"]) == (503, "shutting_down")


# ---- clients that leave ----------------------------------------------------------------------------------------------


async def leaves(server: Server, content: bytes, after: asyncio.Event) -> None:
    """Send this much of a form, and break off once the event is set."""
    never = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield content
        await never.wait()

    async with web(server) as client:
        sending = asyncio.create_task(client.post(PATH, content=pieces(), headers={"content-type": TYPE}))
        await after.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending


@pytest.mark.parametrize("is_live", [True, False])
async def test_a_client_that_leaves_while_it_sends_frees_everything(is_live: bool, sdk: Sdk) -> None:  # noqa: FBT001
    left = asyncio.Event()
    async with service_of(sdk.engine) as server:
        parts = audio(WAV)[:: 1 if is_live else -1]
        leaving = asyncio.create_task(leaves(server, form(*parts)[:-1000], left))
        await until(lambda: server.connections and (sdk.heard or not is_live))
        left.set()
        await leaving
        await until(lambda: not (server.connections or server.sessions.alive))
        assert server.sessions.pool.active == 0


async def test_a_client_that_leaves_while_its_file_is_heard_frees_everything(sdk: Sdk) -> None:
    """Nobody else would read the transcript: the stream is not waited for."""
    sdk.may_end.clear()
    async with service_of(sdk.engine) as server:
        async with web(server) as client:
            sending = asyncio.create_task(client.post(PATH, content=form(*audio(WAV)), headers={"content-type": TYPE}))
            await until(lambda: len(sdk.heard) == len(SAID))
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
        await until(lambda: not (server.connections or server.sessions.alive))
        sdk.may_end.set()
        await until(sdk.has_left.is_set)
