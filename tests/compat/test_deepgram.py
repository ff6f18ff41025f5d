"""Deepgram's Python SDK, unmodified, against the service and its embedded recognizer: only the URL changes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from speechbridge.server.admission import make_key
from tests.helpers.clip import READ, pcm
from tests.helpers.command import environment, serving, url_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("deepgram", reason="deepgram-sdk is not installed: make develop")
pytestmark = pytest.mark.slow

RAW: dict[str, Any] = {"encoding": "linear16", "sample_rate": 16000, "punctuate": True}
SIZE = len(pcm())


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as (_, said):
        yield url_in(said)


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speech") / "reading.raw"
    path.write_bytes(pcm())
    return path


def sdk(url: str, steps: list[int | str], parameters: dict[str, Any], **job: Any) -> list[dict[str, Any]]:
    given = {"url": url, "steps": steps, "parameters": parameters, **job}
    command = [sys.executable, "-m", "tests.compat.deepgram_sdk", json.dumps(given, default=str)]
    ran = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    found: list[dict[str, Any]] = json.loads(ran.stdout)
    return found


def results(seen: dict[str, Any], *, final: bool) -> list[dict[str, Any]]:
    return [told for told in seen["told"] if told["type"] == "Results" and told["is_final"] is final]


def transcript(seen: dict[str, Any]) -> list[str]:
    said = [told["channel"]["alternatives"][0]["transcript"] for told in results(seen, final=True)]
    return [text for text in said if text]


def test_interim_results_come_while_audio_is_sent_and_the_words_are_right(url: str, audio: Path) -> None:
    wanted = {"interim_results": True, "vad_events": True, "utterance_end_ms": 1000}
    [seen] = sdk(url, [SIZE, "close_stream"], {**RAW, **wanted}, audio=audio, paced=True)
    assert seen["errors"] == []
    assert any(told["type"] == "Results" for told in seen["told"][: seen["before_the_last"]])
    assert transcript(seen) == list(READ)
    assert [told["type"] for told in seen["told"]].count("SpeechStarted") == 2
    for result in results(seen, final=True):
        [alternative] = result["channel"]["alternatives"]
        assert alternative["transcript"] == " ".join(word["punctuated_word"] for word in alternative["words"])
        assert all(0 < word["confidence"] <= 1 and word["end"] > word["start"] for word in alternative["words"])
    last = seen["told"][-1]
    assert (last["type"], last["duration"]) == ("Metadata", pytest.approx(SIZE / 32000, abs=0.3))


def test_finalize_and_a_pause_with_keep_alive_lose_nothing_and_times_run_on(url: str, audio: Path) -> None:
    steps: list[int | str] = [64000, "finalize", "sleep", "keep_alive", SIZE - 64000, "finalize", "close_stream"]
    [seen] = sdk(url, steps, RAW, audio=audio)
    flushed = [result for result in results(seen, final=True) if result["from_finalize"]]
    assert len(flushed) == 2
    starts = [result["start"] for result in results(seen, final=True)]
    assert starts == sorted(starts)
    assert " ".join(transcript(seen)).startswith("And Mr. John")
    assert transcript(seen)[-1] == READ[1]
    assert seen["told"][-1]["duration"] == pytest.approx(SIZE / 32000, abs=0.3)


def test_one_connection_after_another_is_clean(url: str, audio: Path) -> None:
    """For a hundred: `runs` of a job of tests/compat/deepgram_sdk.py."""
    for seen in sdk(url, [96000, "close_stream"], RAW, audio=audio, runs=10):
        assert (seen["errors"], seen["told"][-1]["type"]) == ([], "Metadata")
        assert transcript(seen)


def test_what_is_not_supported_is_the_error_that_the_sdk_raises(url: str) -> None:
    [seen] = sdk(url, [], {**RAW, "encoding": "amr-nb"})
    [error] = seen["errors"]
    assert "400" in error


def test_a_wrong_key_is_the_error_that_the_sdk_raises() -> None:
    key, line = make_key("alice")
    with serving(SPEECHBRIDGE_START="builtins:iter", SPEECHBRIDGE_API_KEYS=line) as (_, said):
        [wrong] = sdk(url_in(said), [], RAW, key="wrong")
        [right] = sdk(url_in(said), ["close_stream"], RAW, key=key)
    assert "401" in wrong["errors"][0]
    assert (right["errors"], right["told"][-1]["type"]) == ([], "Metadata")
