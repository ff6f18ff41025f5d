"""`speechbridge transcribe`: what goes to the service, to stdout, to stderr, to files, and how it ends."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
import soundfile
from websockets.exceptions import ConnectionClosed

from speechbridge.cli import transcribe as module
from speechbridge.cli.exits import BadInput
from speechbridge.cli.recording import Recording
from speechbridge.cli.screen import Screen
from speechbridge.cli.transcribe import Clock, Format, Job, Pace, _targets, _transcribe_all, cli, transcribe
from speechbridge.client.stream import Broken
from speechbridge.protocol.close import END_OF_INPUT
from speechbridge.protocol.messages import Connected, Element, Final, Partial
from tests.helpers.far_side import hear, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from websockets.asyncio.server import ServerConnection

    from speechbridge.client.stream import Stream

ONE = Final(0, 1, (Element("One", ts=0.1, end_ts=0.9), Element(".", "punct")))
TWO = Final(1, 2.5, (Element("Two", ts=1.2, end_ts=2.4), Element("?", "punct")))
SRT = "1\n00:00:00,100 --> 00:00:00,933\nOne.\n\n2\n00:00:01,200 --> 00:00:02,400\nTwo?\n"


@dataclass
class FakeClock:
    """A clock that moves only when one sleeps, and then `late` seconds further than asked for."""

    late: float = 0.0
    time: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds + (self.late if seconds else 0)
        await asyncio.sleep(0)

    def clock(self) -> Clock:
        return Clock(self.now, self.sleep)


def tone(path: Path, seconds: float = 1.0, rate: int = 16000, channels: int = 1, **options: str) -> Path:
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
    soundfile.write(path, np.repeat(wave[:, None], channels, axis=1), rate, **options)
    return path


def nothing(_message: object) -> None:
    pass


async def two_finals(websocket: ServerConnection) -> None:
    await websocket.send(Connected("1").encode())
    await websocket.send(Partial(0, 0.5, (Element("on"),)).encode())
    await hear(websocket)
    await websocket.send(ONE.encode())
    await websocket.send(TWO.encode())
    await websocket.close(1000, END_OF_INPUT)


async def breaks_after_one(websocket: ServerConnection) -> None:
    await websocket.send(ONE.encode())
    await websocket.close(4013, "no decoder is free")


def job(path: Path, format: Format = Format.TEXT, target: Path | None = None) -> Job:  # noqa: A002
    return Job(path, target, format, Pace.FAST, None)


async def test_the_samples_of_a_16_khz_mono_file_are_sent_as_they_are(tmp_path: Path) -> None:
    received = []

    async def handler(websocket: ServerConnection) -> None:
        received.append(await hear(websocket))
        await websocket.close(1000, END_OF_INPUT)

    path = tone(tmp_path / "tone.wav", 1.23)
    with Recording(path) as recording:
        async with serving(handler) as url:
            await transcribe(recording, url, received=nothing, pace=Pace.FAST)
    assert received == [soundfile.read(path, dtype="int16")[0].tobytes()]


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff", "a.au"])
@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (8000, 1)])
def test_any_format_rate_and_channels_become_16_khz_mono(tmp_path: Path, name: str, rate: int, channels: int) -> None:
    with Recording(tone(tmp_path / name, 1.5, rate, channels)) as recording:
        blocks = list(recording.blocks())
    samples = np.frombuffer(b"".join(blocks), "<i2")
    assert len(samples) == pytest.approx(1.5 * 16000, rel=0.05)  # MP3 pads
    assert np.sqrt(np.mean(samples.astype(float) ** 2)) == pytest.approx(16384 / np.sqrt(2), rel=0.1)
    assert max(len(block) for block in blocks) < 3 * 3200  # a file is never in memory as a whole


def test_floats_are_scaled_clipped_and_holes_are_silence(tmp_path: Path) -> None:
    path = tmp_path / "float.wav"
    soundfile.write(path, np.array([0.5, 2.0, -2.0, np.nan, np.inf], "float32"), 16000, subtype="FLOAT")
    with Recording(path) as recording:
        assert np.frombuffer(b"".join(recording.blocks()), "<i2").tolist() == [16384, 32767, -32768, 0, 32767]


@pytest.mark.parametrize("late", [0.0, 0.03, 0.25])
async def test_real_time_pace_does_not_drift_by_late_sleeps(tmp_path: Path, late: float) -> None:
    """Each block goes out when it would have been spoken, whatever the delay of those before it."""
    fake = FakeClock(late)
    sent: list[tuple[float, float]] = []
    with Recording(tone(tmp_path / "tone.wav", 3)) as recording:
        async with serving(two_finals) as url:
            await transcribe(
                recording,
                url,
                received=nothing,
                sent=lambda seconds: sent.append((seconds, fake.time - 1000)),
                clock=fake.clock(),
            )
    assert len(sent) == 30
    assert sent[-1][0] == pytest.approx(3)
    for seconds, at in sent:
        assert seconds - 1e-6 <= at <= seconds + late + 1e-6


async def test_fast_pace_never_sleeps(tmp_path: Path) -> None:
    fake = FakeClock()
    with Recording(tone(tmp_path / "tone.wav")) as recording:
        async with serving(two_finals) as url:
            await transcribe(recording, url, received=nothing, pace=Pace.FAST, clock=fake.clock())
    assert fake.slept == []


async def test_captions_are_heard_before_the_last_block_is_sent(tmp_path: Path) -> None:
    """The clock stands still until the first partial is heard."""
    heard = asyncio.Event()
    events: list[str] = []
    fake = FakeClock()

    async def sleep(seconds: float) -> None:
        await heard.wait()
        await fake.sleep(seconds)

    def hear_one(message: Partial | Final) -> None:
        events.append(type(message).__name__)
        heard.set()

    with Recording(tone(tmp_path / "tone.wav")) as recording:
        async with serving(two_finals) as url:
            clock = Clock(fake.now, sleep)
            await transcribe(recording, url, received=hear_one, sent=lambda _: events.append("sent"), clock=clock)
    assert events == ["Partial", *["sent"] * 10, "Final", "Final"]


async def test_the_language_is_asked_for(tmp_path: Path) -> None:
    paths = []

    async def handler(websocket: ServerConnection) -> None:
        paths.append(websocket.request.path if websocket.request else "")
        await two_finals(websocket)

    with Recording(tone(tmp_path / "tone.wav")) as recording:
        async with serving(handler) as url:
            await transcribe(recording, url, received=nothing, pace=Pace.FAST, language="fr")
    assert "language=fr" in paths[0]


async def test_a_broken_stream_gives_its_messages_first(tmp_path: Path) -> None:
    heard: list[Partial | Final] = []
    with Recording(tone(tmp_path / "tone.wav")) as recording:
        async with serving(breaks_after_one) as url:
            with pytest.raises(Broken):
                await transcribe(recording, url, received=heard.append, pace=Pace.FAST)
    assert heard == [ONE]


@pytest.mark.parametrize(
    ("format_", "expected"),
    [(Format.TEXT, "One.\nTwo?\n"), (Format.SRT, SRT), (Format.VTT, "WEBVTT\n\n00:00:00.100 -->")],
)
async def test_stdout_is_the_transcript_and_stderr_is_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], format_: Format, expected: str
) -> None:
    """Here neither is a terminal: no bar, no control characters."""
    async with serving(two_finals) as url:
        assert await _transcribe_all([job(tone(tmp_path / "a.wav"), format_)], nullcontext(url)) == 0
    out, err = capsys.readouterr()
    assert out.startswith(expected)
    assert err == ""


async def test_json_of_several_files_is_one_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [job(tone(tmp_path / name), Format.JSON) for name in ("a.wav", "b.wav")]
    async with serving(two_finals) as url:
        assert await _transcribe_all(jobs, nullcontext(url)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [len(json.loads(line)["monologues"]) for line in lines] == [2, 2]


@pytest.mark.parametrize("format_", Format)
async def test_output_writes_whole_files_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], format_: Format
) -> None:
    files = [tone(tmp_path / "a.wav"), tone(tmp_path / "b.flac")]
    output = tmp_path / "made" / "here"
    jobs = [job(path, format_, target) for path, target in zip(files, _targets(files, format_, output), strict=True)]
    async with serving(two_finals) as url:
        assert await _transcribe_all(jobs, nullcontext(url)) == 0
    suffix = "txt" if format_ is Format.TEXT else format_.value
    assert sorted(path.name for path in output.iterdir()) == [f"a.{suffix}", f"b.{suffix}"]
    assert "Two" in (output / f"b.{suffix}").read_text("utf-8")
    said = [f"speechbridge: {path}: transcript written to {output}/{path.stem}.{suffix}\n" for path in files]
    assert capsys.readouterr() == ("", "".join(said))


async def test_a_break_in_the_middle_leaves_what_was_heard_and_says_up_to_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [job(tone(tmp_path / "a.wav"), Format.TEXT), job(tone(tmp_path / "b.wav"), Format.TEXT)]
    async with serving(breaks_after_one) as url:
        assert await _transcribe_all(jobs, nullcontext(url)) == 1
    out, err = capsys.readouterr()
    assert out == "One.\n"
    assert err == (
        f"speechbridge: {tmp_path}/a.wav: no recognizer is free: try again later"
        " [close code 4013 (no decoder is free)] (transcribed up to 1.0 s)\n"
    )


async def test_a_transcript_of_an_earlier_run_is_not_replaced_by_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def handler(websocket: ServerConnection) -> None:
        await websocket.close(4029, "Too many sessions")

    target = tmp_path / "a.srt"
    target.write_text("earlier")
    async with serving(handler) as url:
        assert await _transcribe_all([job(tone(tmp_path / "a.wav"), Format.SRT, target)], nullcontext(url)) == 1
    assert target.read_text() == "earlier"
    assert "4029" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.flac", r"a\.flac: damaged after [45]\.\d s \(Error : flac decoder lost sync\)"),
        ("a.mp3", r"a\.mp3: ends after [45]\.\d s, but its header says 10\.0 s: it is truncated or damaged"),
    ],
)
async def test_a_damaged_file_is_heard_up_to_the_damage(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    """libmpg123 adds lines of its own to stderr."""
    path = tone(tmp_path / name, 10)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    async with serving(two_finals) as url:
        assert await _transcribe_all([job(path)], nullcontext(url)) == 2
    out, err = capfd.readouterr()
    assert out == "One.\nTwo?\n"
    assert re.search(said, err)


async def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "a.srt"
    target.mkdir()
    async with serving(two_finals) as url:
        with pytest.raises(BadInput, match=r"a\.srt cannot be written"):
            await _transcribe_all([job(tone(tmp_path / "a.wav"), Format.SRT, target)], nullcontext(url))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.srt", "a.wav"]
    assert capsys.readouterr().out.startswith("1\n00:00:00,"), "what was heard is not lost"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.wav"], "missing.wav: No such file or directory: name a sound file"),
        (["."], ".: not a file"),
        (["empty.wav"], "empty.wav: it is empty"),
        (["text.wav"], "text.wav: no audio can be read from it (Format not recognised): convert it"),
        (["samples.raw"], "samples.raw: no audio can be read from it (Format not recognised): convert it"),
        (["silent.wav"], "silent.wav: it holds no audio"),
        (["a.wav", "b.wav", "--format", "srt"], "srt of several files needs a directory to write to: add --output DIR"),
        (["a.wav", "b.wav", "--format", "vtt"], "vtt of several files needs a directory to write to: add --output DIR"),
        (["a.wav", "a.flac", "--output", "."], "a.wav: another file would be written to a.txt too"),
        (["a.wav", "--output", "a.srt"], "--output a.srt: name the directory, not the file"),
        (["a.wav", "--output", "text.wav"], "--output text.wav is not a directory"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    """And is said before anything is sent: nothing listens at this URL."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "a.flac", "b.wav"):
        tone(tmp_path / name, 0.1)
    tone(tmp_path / "silent.wav", 0)
    (tmp_path / "empty.wav").touch()
    for name in ("text.wav", "samples.raw"):
        (tmp_path / name).write_text("no audio")
    assert _run([*arguments, "--url", "ws://127.0.0.1:1"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"speechbridge: {said}")
    assert err.count("\n") == 1


def test_a_service_that_is_not_there_is_one_line_and_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run([str(tone(tmp_path / "a.wav")), "--url", "ws://127.0.0.1:1"]) == 1
    assert capsys.readouterr().err.startswith(f"speechbridge: {tmp_path}/a.wav: ws://127.0.0.1:1 cannot be reached")


def test_without_an_url_the_local_service_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "service", lambda _url: nullcontext("ws://127.0.0.1:2"))
    assert _run([str(tone(tmp_path / "a.wav"))]) == 1
    assert "ws://127.0.0.1:2 cannot be reached" in capsys.readouterr().err


@pytest.mark.slow
async def test_text_comes_as_it_is_heard_and_ctrl_c_keeps_it(tmp_path: Path) -> None:
    """A real process: a line is in the pipe while audio still goes out, then SIGINT, exit 130, no traceback."""
    path = tone(tmp_path / "a.wav", 600)
    async with serving(speaks_at_once) as url, _process(path, url) as process:
        assert process.stdout
        assert await process.stdout.readline() == b"One.\n"
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
        assert (process.returncode, out) == (130, b"")
        assert err.decode() == f"speechbridge: {tmp_path}/a.wav: interrupted (transcribed up to 1.0 s)\n"


async def test_a_cancelled_sender_does_not_wait_for_room_to_say_that_it_ends(tmp_path: Path) -> None:
    stuck = asyncio.Event()

    class StuckStream:
        async def send(self, _audio: bytes) -> None:
            stuck.set()
            await asyncio.Event().wait()

        async def end(self) -> None:
            pytest.fail("the wire is full, this would wait for ever")

    with Recording(tone(tmp_path / "tone.wav")) as recording:
        stream = cast("Stream", StuckStream())
        sending = asyncio.create_task(module._send(recording, stream, nothing, Pace.FAST, Clock()))
        await stuck.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending


@pytest.mark.slow
async def test_ctrl_c_writes_captions_of_what_was_heard(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = asyncio.Event()
    show = Screen.show

    def show_and_tell(self: Screen, message: Partial | Final) -> None:
        show(self, message)
        heard.set()

    monkeypatch.setattr(Screen, "show", show_and_tell)
    playing = Job(tone(tmp_path / "a.wav", 600), None, Format.SRT, Pace.REALTIME, None)
    async with serving(speaks_at_once) as url:
        task = asyncio.create_task(_transcribe_all([playing], nullcontext(url)))
        await heard.wait()
        task.cancel()
        assert await task == 130
    out, err = capsys.readouterr()
    assert out == "1\n00:00:00,100 --> 00:00:00,933\nOne.\n"
    assert "interrupted (transcribed up to 1.0 s)" in err


async def speaks_at_once(websocket: ServerConnection) -> None:
    await websocket.send(ONE.encode())
    with suppress(ConnectionClosed):
        await hear(websocket)


@asynccontextmanager
async def _process(path: Path, url: str) -> AsyncIterator[Process]:
    """Run the command as a user does."""
    command = (sys.executable, "-m", "speechbridge", "transcribe", str(path), "--url", url)
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def _run(arguments: list[str]) -> object:
    with pytest.raises(SystemExit) as ended:
        cli(arguments)
    return ended.value.code
