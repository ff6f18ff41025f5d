"""`speechbridge mic`: a microphone of ours in PortAudio's place, which hands over its blocks in a thread too."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from speechbridge.cli import microphone as mic
from speechbridge.cli.microphone import QUEUE, Microphone, NoMicrophone, caption, cli
from speechbridge.client.stream import Broken
from speechbridge.protocol.close import END_OF_INPUT
from speechbridge.protocol.messages import Connected, Element, Final, Partial
from tests.helpers.far_side import hear, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from websockets.asyncio.server import ServerConnection

    from speechbridge.cli.microphone import Take

PARTIAL = Partial(0, 1, (Element("one"),))
FINAL = Final(0, 1, (Element("One", ts=0.0, end_ts=0.9), Element(".", "punct")))


@dataclass
class FakeInput:
    """A `sounddevice.RawInputStream`, whose sound the test makes."""

    samplerate: float = 16000.0
    calls: list[str] = field(default_factory=list)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    broken: bool = False

    def open(self, take: Take, finish: Callable[[], None]) -> FakeInput:
        self.take, self.finish = take, finish
        return self

    def start(self) -> None:
        if self.broken:
            raise RuntimeError("Device unavailable [PaErrorCode -9985]")
        self.calls.append("start")
        self.started.set()

    def stop(self) -> None:
        self.calls.append("stop")

    def close(self) -> None:
        self.calls.append("close")

    def sound(self, *blocks: bytes, overflow: bool = False) -> None:
        """Hand over blocks as PortAudio does: in its thread, in memory that is its own afterwards."""

        def run() -> None:
            for block in blocks:
                memory = bytearray(block)
                self.take(memoryview(memory), len(block) // 2, None, SimpleNamespace(input_overflow=overflow))
                memory[:] = bytes(len(memory))

        _in_a_thread(run)

    def unplug(self) -> None:
        _in_a_thread(self.finish)


def _in_a_thread(run: Callable[[], None]) -> None:
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


@contextmanager
def microphone(fake: FakeInput) -> Iterator[Microphone]:
    with Microphone(fake.open) as microphone:
        yield microphone
    assert fake.calls[-2:] == ["stop", "close"]


def tone(seconds: float, rate: int = 16000, volume: float = 0.5) -> bytes:
    wave = volume * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
    samples: bytes = (wave * 32767).astype("<i2").tobytes()
    return samples


def nothing(*_: object) -> None:
    pass


async def answer(websocket: ServerConnection) -> None:
    await websocket.send(Connected("1").encode())
    await hear(websocket)
    await websocket.send(FINAL.encode())
    await websocket.close(1000, END_OF_INPUT)


async def test_blocks_come_in_order_and_the_end_after_them() -> None:
    fake = FakeInput()
    with microphone(fake) as source:
        fake.sound(b"ab", b"cd")
        assert await anext(source) == b"ab"
        waiting = asyncio.create_task(_read(source))
        await asyncio.sleep(0)  # it took what there was, and waits now
        fake.sound(b"ef")
        source.end()
        source.end()
        assert await waiting == [b"cd", b"ef"]
        assert (source.lost, source.gaps) == (0, 0)


async def test_a_block_that_comes_while_one_waits_is_not_missed() -> None:
    fake = FakeInput()
    with microphone(fake) as source:
        for n in range(20):
            waiting = asyncio.ensure_future(anext(source))
            await asyncio.sleep(0)
            fake.sound(bytes([n, n]))
            assert await waiting == bytes([n, n])


async def test_what_has_no_room_is_counted_and_what_had_is_kept() -> None:
    fake = FakeInput()
    with microphone(fake) as source:
        fake.sound(*[bytes([n, n]) for n in range(QUEUE)])
        fake.sound(bytes(2 * 1600), bytes(2 * 4800), overflow=True)
        assert source.lost == pytest.approx(0.4)
        assert source.gaps == 2
        source.end()
        assert await _read(source) == [bytes([n, n]) for n in range(QUEUE)]


async def test_a_device_that_leaves_is_an_error_after_its_last_block() -> None:
    fake = FakeInput()
    with microphone(fake) as source:
        fake.sound(b"ab")
        fake.unplug()
        assert await anext(source) == b"ab"
        with pytest.raises(NoMicrophone, match="has disappeared: connect it again"):
            await anext(source)


async def test_a_device_that_does_not_start_is_said_so() -> None:
    with (
        microphone(FakeInput(broken=True)) as source,
        pytest.raises(NoMicrophone, match=r"Device unavailable .* choose another"),
    ):
        source.start()


@pytest.mark.parametrize("rate", [16000, 48000, 44100])
async def test_sound_is_sent_as_16_khz_mono_and_measured(rate: int) -> None:
    fake = FakeInput(float(rate))
    heard: list[Partial | Final] = []
    levels: list[tuple[float, float]] = []
    received: list[bytes] = []

    async def handler(websocket: ServerConnection) -> None:
        received.append(await hear(websocket))
        await websocket.send(FINAL.encode())
        await websocket.close(1000, END_OF_INPUT)

    async with serving(handler) as url:
        with microphone(fake) as source:
            captioning = asyncio.create_task(
                caption(source, url, received=heard.append, level=lambda *told: levels.append(told))
            )
            await fake.started.wait()
            fake.sound(tone(1, rate), bytes(rate), tone(0.5, rate, volume=1))
            source.end()
            await captioning
    assert heard == [FINAL]
    assert len(received[0]) / 2 == pytest.approx(2 * 16000, abs=2)
    assert [seconds for _, seconds in levels] == pytest.approx([1, 1.5, 2], abs=0.01)
    assert [level for level, _ in levels] == pytest.approx([0.85, 0, 0.95], abs=0.01)  # -9 dB, silence, -3 dB


async def test_the_language_is_asked_for() -> None:
    paths = []

    async def handler(websocket: ServerConnection) -> None:
        paths.append(websocket.request.path if websocket.request else "")
        await answer(websocket)

    async with serving(handler) as url:
        with microphone(FakeInput()) as source:
            source.end()
            await caption(source, url, received=nothing, language="fr")
    assert "language=fr" in paths[0]


async def test_a_microphone_that_goes_is_told_after_its_last_words() -> None:
    fake = FakeInput()
    heard: list[Partial | Final] = []
    async with serving(answer) as url:
        with microphone(fake) as source:
            captioning = asyncio.create_task(caption(source, url, received=heard.append))
            await fake.started.wait()
            fake.sound(tone(0.1))
            fake.unplug()
            with pytest.raises(NoMicrophone):
                await captioning
    assert heard == [FINAL]


async def test_a_stream_that_breaks_ends_the_sending() -> None:
    async def handler(websocket: ServerConnection) -> None:
        await websocket.close(4013, "no decoder is free")

    async with serving(handler) as url:
        with microphone(FakeInput()) as source, pytest.raises(Broken):
            await caption(source, url, received=nothing)


async def test_ctrl_c_waits_for_the_last_words_and_succeeds(capsys: pytest.CaptureFixture[str]) -> None:
    """The first Ctrl-C is a cancellation: so asyncio does it."""
    fake = FakeInput()
    async with serving(answer) as url:
        running = asyncio.create_task(mic._run(fake.open, nullcontext(url), None))
        await fake.started.wait()
        fake.sound(tone(0.1))
        running.cancel()
        assert await running == 0
    assert capsys.readouterr() == ("One.\n", "")
    assert fake.calls == ["start", "stop", "stop", "close"]


async def test_ctrl_c_while_connecting_hears_nothing_and_succeeds(capsys: pytest.CaptureFixture[str]) -> None:
    fake = FakeInput()
    async with serving(answer) as url:
        running = asyncio.create_task(mic._run(fake.open, nullcontext(url), None))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running.cancel()
        assert await running == 0
    assert "start" not in fake.calls
    assert capsys.readouterr().err == ""


async def test_a_second_ctrl_c_leaves_at_once() -> None:
    """It is a KeyboardInterrupt, after which asyncio cancels what is left."""
    fake = FakeInput()
    ended = asyncio.Event()

    async def silent(websocket: ServerConnection) -> None:
        await websocket.send(Connected("1").encode())
        await hear(websocket)
        ended.set()
        await websocket.wait_closed()

    async with serving(silent) as url:
        running = asyncio.create_task(mic._run(fake.open, nullcontext(url), None))
        await fake.started.wait()
        running.cancel()
        await ended.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert fake.calls[-1] == "close"


async def test_last_words_that_do_not_come_are_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mic, "LAST_WORDS", 0.05)
    fake = FakeInput()

    async def silent(websocket: ServerConnection) -> None:
        await websocket.send(Connected("1").encode())
        await websocket.wait_closed()

    async with serving(silent) as url:
        running = asyncio.create_task(mic._run(fake.open, nullcontext(url), None))
        await fake.started.wait()
        running.cancel()
        assert await running == 1
    assert capsys.readouterr().err == "speechbridge: the last words did not arrive within 0.05 s: try again later\n"


async def test_what_was_lost_is_said_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    fake = FakeInput()
    async with serving(answer) as url:
        running = asyncio.create_task(mic._run(fake.open, nullcontext(url), None))
        await fake.started.wait()
        fake.sound(*[bytes(3200)] * (QUEUE + 10), overflow=True)
        running.cancel()
        assert await running == 0
    assert capsys.readouterr().err == (
        "speechbridge: 1.0 s of sound were lost: the service, or the connection to it, is too slow\n"
        "speechbridge: the device lost sound 60 times: this machine is too busy\n"
    )


async def test_a_service_that_breaks_off_is_one_line_and_exit_1(capsys: pytest.CaptureFixture[str]) -> None:
    async def handler(websocket: ServerConnection) -> None:
        await websocket.send(FINAL.encode())
        await websocket.close(4013, "no decoder is free")

    async with serving(handler) as url:
        assert await mic._run(FakeInput().open, nullcontext(url), None) == 1
    out, err = capsys.readouterr()
    assert out == "One.\n"
    assert err == "speechbridge: no recognizer is free: try again later [close code 4013 (no decoder is free)]\n"


class PortAudioError(Exception):
    pass


DEVICES = [
    {"index": 0, "name": "Speakers", "max_input_channels": 0, "default_samplerate": 48000.0},
    {"index": 1, "name": "USB\x1b[2J Microphone", "max_input_channels": 2, "default_samplerate": 44100.0},
]


def portaudio(monkeypatch: pytest.MonkeyPatch, devices: list[dict[str, object]], error: Exception) -> list[object]:
    """Put a module in sounddevice's place, whose choice of a device fails; return what it was asked for."""
    asked: list[object] = []

    def query_devices(device: object = None, kind: str | None = None) -> object:
        if kind is None:
            return devices
        asked.append(device)
        raise error

    module = SimpleNamespace(query_devices=query_devices, PortAudioError=PortAudioError)
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return asked


def test_list_shows_the_inputs_and_steers_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    portaudio(monkeypatch, DEVICES, ValueError())
    assert _run(["--list"]) == 0
    assert capsys.readouterr() == ("  1  USB [2J Microphone, 44100 Hz\n", "")


@pytest.mark.parametrize("arguments", [[], ["--list"], ["--device", "1"]])
def test_no_microphone_is_one_line_and_exit_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    portaudio(monkeypatch, DEVICES[:1], ValueError())
    assert _run(arguments) == 2
    assert capsys.readouterr() == (
        "",
        "speechbridge: there is no microphone: connect one, or use transcribe FILE\n",
    )


@pytest.mark.parametrize(("wanted", "asked"), [("7", 7), ("usb", "usb")])
@pytest.mark.parametrize("error", [ValueError("Multiple:\n[1] a\n[2] b"), PortAudioError("Error querying device -1")])
def test_a_device_that_cannot_be_used_is_one_line_and_exit_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wanted: str, asked: object, error: Exception
) -> None:
    told = portaudio(monkeypatch, DEVICES, error)
    assert _run(["--device", wanted, "--url", "ws://127.0.0.1:1"]) == 2
    err = capsys.readouterr().err
    assert told == [asked]
    assert err.startswith("speechbridge: the microphone cannot be used (")
    assert err.endswith("): choose another, see --list\n")
    assert err.count("\n") == 1


def test_a_machine_without_portaudio_is_told_the_cure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Finder:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    assert _run([]) == 2
    assert capsys.readouterr().err == (
        "speechbridge: PortAudio is missing: install it, with apt-get install libportaudio2 for example\n"
    )


@pytest.mark.slow
def test_no_other_command_needs_portaudio() -> None:
    program = "import sys, speechbridge.cli.microphone; sys.exit('sounddevice' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)  # our own


async def _read(source: Microphone) -> list[bytes]:
    return [block async for block in source]


def _run(arguments: list[str]) -> object:
    with pytest.raises(SystemExit) as ended:
        cli(arguments)
    return ended.value.code
