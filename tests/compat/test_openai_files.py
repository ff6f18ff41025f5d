"""The `openai` package, unmodified, sends whole files to a service of its own process: only `base_url` changes."""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from speechbridge.server.admission import make_key
from tests.compat.openai_realtime import OLDER
from tests.helpers import clip
from tests.helpers import packages as packaged
from tests.helpers.command import serving, url_in
from tests.helpers.encoded import FORMS, OGG, WEBM, Form, encoded
from tests.helpers.processes import descriptors, status
from tests.helpers.puppet import until
from tests.helpers.secrets import KNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.shared_server]

ROOT = Path(__file__).parents[2]
CLIENT = Path(__file__).parent / "openai_files.py"
KEY, LINE = make_key("dave")
KNOWN.add(KEY)
M4A = Form("audio/mp4", "ipod", "aac", 44100, sample="fltp", options={"movflags": "rtphint"})  # its index comes last
KINDS = {"wav": FORMS[25], "flac": FORMS[23], "mp3": FORMS[20], "ogg": OGG, "webm": WEBM, "m4a": M4A, "mp4": FORMS[11]}
PATIENCE = 60.0  # seconds


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the service with the embedded recognizer, and return its address for OpenAI's clients."""
    with serving(SPEECHBRIDGE_API_KEYS=LINE) as (process, announced):
        yield process, url_in(announced).replace("ws://", "http://") + "/v1"


@pytest.fixture
def client(service: tuple[subprocess.Popen[str], str]) -> Iterator[OpenAI]:
    with OpenAI(base_url=service[1], api_key=KEY, max_retries=0, timeout=PATIENCE) as made:
        yield made


def words_right(text: str) -> float:
    """Return the share of the reading's words that a text holds."""
    left, said = re.findall(r"[\w'-]+", text.lower()), re.findall(r"[\w'-]+", " ".join(clip.READ).lower())
    found = 0
    for word in said:
        if word in left:
            left.remove(word)
            found += 1
    return found / len(said)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_file_is_heard(kind: str, client: OpenAI) -> None:
    data = encoded(clip.pcm(), KINDS[kind], seekable=kind == "m4a")
    heard = client.audio.transcriptions.create(file=(f"reading.{kind}", data), model="whisper-1")
    assert words_right(heard.text) > 0.9


def test_a_path_and_an_open_file_are_heard(client: OpenAI) -> None:
    for file in (clip.READING, clip.READING.open("rb")):
        heard = client.audio.transcriptions.create(
            file=file, model="gpt-4o-transcribe", language="en", prompt="Austen", temperature=0.0
        )
        assert words_right(heard.text) > 0.9
        if not isinstance(file, Path):
            file.close()


def test_each_format_is_what_the_client_expects(client: OpenAI) -> None:
    def heard(form: Any, **options: Any) -> Any:
        return client.audio.transcriptions.create(file=clip.READING, model="whisper-1", response_format=form, **options)

    assert words_right(heard("text")) > 0.9
    assert heard("srt").startswith("1\n00:00:0")
    assert heard("vtt").startswith("WEBVTT\n\n00:00:0")
    plain = heard("json", include=["logprobs"], chunking_strategy="auto")
    assert "".join(one.token for one in plain.logprobs).split() == plain.text.split()
    assert all(one.logprob <= 0 and bytes(map(int, one.bytes)).decode() == one.token for one in plain.logprobs)
    assert plain.usage.type == "duration"
    verbose = heard("verbose_json", timestamp_granularities=["word", "segment"])
    assert verbose.language == "english"
    assert abs(verbose.duration - len(clip.pcm()) / 32000) < 0.1
    assert "".join(one.text for one in verbose.segments) == verbose.text
    ends = [time for word in verbose.words for time in (word.start, word.end)]
    assert ends == sorted(ends)
    assert words_right(" ".join(word.word for word in verbose.words)) > 0.9
    assert heard("verbose_json", timestamp_granularities=["word"]).segments is None
    assert heard("verbose_json").words is None


async def test_events_append_to_each_other(service: tuple[subprocess.Popen[str], str]) -> None:
    async with AsyncOpenAI(base_url=service[1], api_key=KEY, max_retries=0) as client:
        events = await client.audio.transcriptions.create(
            file=clip.READING, model="gpt-4o-mini-transcribe", stream=True, include=["logprobs"]
        )
        heard = [event async for event in events]
    assert [event.type for event in heard] == ["transcript.text.delta"] * (len(heard) - 1) + ["transcript.text.done"]
    assert "".join(event.delta for event in heard[:-1] if event.type == "transcript.text.delta") == heard[-1].text  # type: ignore[union-attr] # the last one has it
    assert words_right(heard[-1].text) > 0.9  # type: ignore[union-attr] # likewise
    assert all(event.logprobs for event in heard)  # type: ignore[union-attr] # both kinds have them


@pytest.mark.parametrize("version", ["installed", OLDER])
def test_a_version_that_is_a_year_old_reads_each_format_as_well(
    version: str, service: tuple[subprocess.Popen[str], str], tmp_path: Path
) -> None:
    packages = None if version == "installed" else packaged.installed(version, tmp_path)
    [seen] = packaged.run(CLIENT, {"url": service[1], "key": KEY, "audio": str(clip.READING)}, packages)
    assert version == "installed" or version.endswith(seen["version"])
    assert all(words_right(seen[form]) > 0.9 for form in ("json", "text", "srt", "vtt"))
    assert (seen["srt"][:10], seen["vtt"][:15]) == ("1\n00:00:00", "WEBVTT\n\n00:00:0")
    verbose = seen["verbose_json"]
    assert words_right(" ".join(word["word"] for word in verbose["words"])) > 0.9
    assert "".join(segment["text"] for segment in verbose["segments"]) == verbose["text"]
    *deltas, done = seen["events"]
    assert {event["type"] for event in deltas} == {"transcript.text.delta"}
    assert "".join(event["delta"] for event in deltas) == done["text"]
    assert words_right(done["text"]) > 0.9
    assert seen["error"][:3] == [400, "invalid_request_error", "file"]


@pytest.mark.parametrize(
    ("data", "options", "kind", "param"),
    [
        (b"", {}, openai.BadRequestError, "file"),
        (b"no sound " * 5000, {}, openai.BadRequestError, "file"),
        (bytes(26 * 2**20), {}, openai.APIStatusError, "file"),
        (b"RIFF", {"language": "fr"}, openai.BadRequestError, "file"),
        (b"x", {"response_format": "diarized_json"}, openai.BadRequestError, "response_format"),
    ],
)
def test_errors_are_what_the_client_expects(
    data: bytes, options: dict[str, Any], kind: type[openai.APIStatusError], param: str, client: OpenAI
) -> None:
    with pytest.raises(kind) as caught:
        client.audio.transcriptions.create(file=("a.wav", data), model="whisper-1", **options)
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"
    assert caught.value.status_code == (413 if len(data) > 2**24 else 400)


def test_a_wrong_key_is_an_authentication_error(service: tuple[subprocess.Popen[str], str]) -> None:
    with OpenAI(base_url=service[1], api_key="sk-wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            client.audio.transcriptions.create(file=clip.READING, model="whisper-1")
        assert caught.value.code == "invalid_api_key"


async def test_ten_files_at_once_are_all_heard_and_nothing_is_left(
    service: tuple[subprocess.Popen[str], str],
) -> None:
    """Five of them leave before they are answered."""
    process, url = service
    data = encoded(clip.pcm(seconds=8.0), WEBM)
    async with AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=PATIENCE) as client:

        async def hear() -> str:
            heard = await client.audio.transcriptions.create(file=("a.webm", data), model="whisper-1")
            return heard.text

        await hear()
        before = descriptors(process.pid)
        leaving = [asyncio.create_task(hear()) for _ in range(5)]
        hearing = [asyncio.create_task(hear()) for _ in range(10)]
        await asyncio.sleep(0.3)
        for task in leaving:
            task.cancel()
        texts = await asyncio.gather(*hearing)
        await asyncio.gather(*leaving, return_exceptions=True)
    assert len(set(texts)) == 1
    assert words_right(texts[0]) > 0.4
    await until(lambda: descriptors(process.pid) <= before)
    assert status(process.pid)["VmRSS"] < 600 * 1024


def test_the_curl_line_of_the_docs(service: tuple[subprocess.Popen[str], str]) -> None:
    (line,) = re.findall(r"^curl .*$", (ROOT / "docs" / "files.md").read_text(), re.MULTILINE)
    command = line.replace("http://127.0.0.1:8000/v1", service[1]) + f" -sS -H 'Authorization: Bearer {KEY}'"
    ran = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=True)  # noqa: S602 # our own documentation
    assert words_right(ran.stdout) > 0.9
