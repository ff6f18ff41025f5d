"""stdout and stderr in the states that they may be in, and what a command makes of each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from tests.helpers.command import HEARS_HELLO, PATIENCE, environment, serving, url_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.shared_server]

US = f"'{sys.executable}' -m speechbridge"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(SPEECHBRIDGE_START=HEARS_HELLO) as (_, announced):
        yield url_in(announced)


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(1600, np.int16), 16000)
    return path


def sh(command: str, content: bytes = b"", folder: Path | None = None, **variables: str) -> tuple[int, bytes, str]:
    ran = subprocess.run(
        ["sh", "-c", command],
        input=content,
        cwd=folder,
        env=environment(PYTHONPATH=os.getcwd(), **variables),  # noqa: PTH109 # a string is wanted
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    return ran.returncode, ran.stdout, ran.stderr.decode()


@pytest.mark.parametrize("options", ["", "--format srt"])
@pytest.mark.parametrize(
    ("redirection", "said"),
    [
        (">&-", "stdout is closed: redirect it to a file, or use --output where there is one"),
        (">/dev/full", "stdout cannot be written (No space left on device): redirect it elsewhere"),
        ("| true", "stdout cannot be written (Broken pipe): redirect it elsewhere"),
    ],
)
def test_a_transcript_that_cannot_be_written_is_one_line_and_exit_1(
    url: str, sound: Path, redirection: str, said: str, options: str
) -> None:
    code = "/proc/self/fd/3"  # of the first command of a pipeline, which sh itself does not tell
    command = f"exec 3>&1; {{ {US} transcribe --url {url} {options} '{sound}'; echo code $? >{code}; }} {redirection}"
    _, out, err = sh(command)
    assert out == b"code 1\n"
    assert err == f"speechbridge: {said}\n"


@pytest.mark.parametrize("command", ["--help", "transcribe --help", "--version", "key a", "mic --list", "send --help"])
@pytest.mark.parametrize("redirection", [">&-", ">/dev/full", ">/dev/full 2>/dev/full", ">&- 2>&-", "2>&- <&-"])
def test_no_command_ends_in_a_traceback(command: str, redirection: str) -> None:
    code, _, err = sh(f"{US} {command} {redirection}")
    assert code in (0, 1, 2)
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    assert all(line.startswith("speechbridge: ") for line in err.splitlines() if command != "key a")


def test_ctrl_c_in_the_middle_keeps_what_was_heard_and_the_last_words(sound: Path) -> None:
    soundfile.write(sound, np.zeros(16000 * 600, np.int16), 16000)
    with (
        serving(SPEECHBRIDGE_START="tests.helpers.command:hears_at_both_ends") as (_, announced),
        subprocess.Popen(
            [sys.executable, "-m", "speechbridge", "transcribe", "--url", url_in(announced), sound],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "Begun.\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (130, "Ended.\n")
    assert err == f"speechbridge: {sound}: interrupted (transcribed up to 2.0 s)\n"


def test_a_full_disk_costs_no_transcript(url: str, sound: Path, tmp_path: Path) -> None:
    """The limit of a file's size is what a full disk is, but for the word."""
    said, out, err = sh(f"ulimit -f 0; {US} transcribe --pace fast --output {tmp_path} --url {url} {sound}")
    assert (said, out) == (2, b"Hello.\n")
    assert f"{tmp_path}/a.txt cannot be written (File too large): the transcript went to stdout" in err
    assert not list(tmp_path.glob(".a.txt*"))


@pytest.mark.parametrize("name", [b"\xff\xfe.wav", "\u00e4 b.wav".encode(), b"-x.wav"])
def test_any_file_name_works(url: str, sound: Path, tmp_path: Path, name: bytes) -> None:
    os.rename(sound, os.fsencode(tmp_path) + b"/" + name)  # noqa: PTH104 # a name that pathlib would decode
    command = [sys.executable, "-m", "speechbridge", "transcribe", "--url", url, "--output", "made", "--", name]
    where = {"cwd": tmp_path, "env": environment()}
    ran = subprocess.run(command, **where, capture_output=True, timeout=PATIENCE, check=False)  # type: ignore[call-overload] # as above
    assert (ran.returncode, ran.stdout) == (0, b""), ran.stderr
    assert b"transcript written to made/" in ran.stderr
    [written] = os.listdir(os.fsencode(tmp_path / "made"))  # noqa: PTH208 # as above
    assert written == name.replace(b".wav", b".txt")


def test_a_transcript_is_utf_8_whatever_the_locale(sound: Path) -> None:
    with serving(SPEECHBRIDGE_START="tests.cli.test_output:hears_umlauts") as (_, announced):
        code, out, err = sh(f"{US} transcribe --url {url_in(announced)} '{sound}'", LC_ALL="C", PYTHONUTF8="0")
    assert (code, out.decode(), err) == (0, "\u00c4 \u4f60\u597d\n", "")


def hears_umlauts(audio: Iterator[bytes]) -> Iterator[str]:
    for _ in audio:
        pass
    yield '{"type": "final", "ts": 0, "end_ts": 1, "elements": [{"type": "text", "value": "\u00c4 \u4f60\u597d"}]}'


# ---- stdin -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cat '{sound}' | {us} -", "{us} - <'{sound}'", "{us} /dev/stdin <'{sound}'"])
def test_a_sound_file_comes_by_stdin(url: str, sound: Path, how: str) -> None:
    us = f"{US} transcribe --url {url}"
    assert sh(how.format(sound=sound, us=us)) == (0, b"Hello.\n", "")


def test_raw_samples_come_by_stdin(url: str) -> None:
    us = f"{US} transcribe --url {url} --format srt"
    code, out, err = sh(f"{us} --rate 8000 --channels 2 -", bytes(3200))
    assert (code, err) == (0, "")
    assert out.startswith(b"1\n00:00:00,100 --> ")
    code, _, err = sh(f"{us} -", bytes(3200))
    assert code == 2
    assert err.startswith("speechbridge: stdin: no audio can be read from it")
    assert "or give --rate if it holds raw samples" in err


@pytest.mark.parametrize(
    ("redirection", "said"),
    [("<&-", "stdin is closed: pipe a sound file into it"), ("</dev/null", "stdin holds no file")],
)
def test_stdin_without_sound_is_one_line_and_exit_2(url: str, redirection: str, said: str) -> None:
    code, out, err = sh(f"{US} transcribe --url {url} - {redirection}")
    assert (code, out) == (2, b"")
    assert err.startswith(f"speechbridge: {said}")
    assert err.count("\n") == 1


# ---- how much is said ------------------------------------------------------------------------------------------------


def test_success_is_said_with_output_and_not_if_quiet(url: str, sound: Path, tmp_path: Path) -> None:
    us = f"{US} transcribe --url {url} --output made"
    said = "speechbridge: a.wav: transcript written to made/a.txt\n"
    assert sh(f"{us} a.wav", folder=tmp_path) == (0, b"", said)
    assert sh(f"{us} -q a.wav", folder=tmp_path) == (0, b"", "")
    assert sh(f"{US} -q transcribe --url {url} --output made a.wav", folder=tmp_path) == (0, b"", "")
    assert sound.exists()


def test_quiet_leaves_errors(url: str) -> None:
    code, _, err = sh(f"{US} transcribe -q --url {url} no.wav")
    assert (code, err) == (2, "speechbridge: no.wav: No such file or directory: name a sound file\n")


def test_verbose_logs_what_the_connection_does(url: str, sound: Path) -> None:
    code, out, err = sh(f"{US} transcribe --verbose --url {url} '{sound}'")
    assert (code, out) == (0, b"Hello.\n")
    assert " DEBUG " in err
