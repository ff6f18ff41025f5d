"""One stream, from audio to hypotheses: when it looks, when it concludes, and what it keeps.

The voice detector and the model are told what to find, so that each step is known; threads and clock are the test's.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from speechbridge.protocol.messages import Element, Final, Partial
from speechbridge.protocol.request import BadRequest
from speechbridge.recognizer.moonshine import Decoded
from speechbridge.recognizer.options import StreamOptions
from speechbridge.recognizer.stream import EMPTY_FINAL_AFTER, INTERIM_AFTER, Stream
from speechbridge.recognizer.utterances import AFTER, BEFORE, PAUSE, Segmenter, frames
from speechbridge.recognizer.voice import FRAME, FRAME_SECONDS
from speechbridge.recognizer.wav import Format
from tests.helpers.puppet import until
from tests.helpers.wav import chunk, fmt, riff

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from speechbridge.recognizer.hypotheses import Hypotheses
    from speechbridge.recognizer.moonshine import Samples
    from speechbridge.recognizer.threads import DecodingThreads, Job
    from speechbridge.recognizer.utterances import Utterance
    from speechbridge.recognizer.voice import VoiceDetector

MONO = Format(16000, 1)
PATIENCE = 10.0  # seconds; only a failing test waits so long
SPEECH, SILENCE, NOISE = 2000, 0, 1000  # samples of a frame: the voice detector below goes by them


def sound(value: int, seconds: float) -> bytes:
    return np.full(frames(seconds) * FRAME, value, "<i2").tobytes()


class Voice:
    """Knows speech by its samples."""

    def detect(self, frame: Samples) -> float:
        return 0.9 if (frame == SPEECH).mean() > 0.5 else 0.01


@dataclass
class Model:
    """Its tokens are how many frames it was given to decode."""

    asked: list[tuple[int, Sequence[int]]] = field(default_factory=list)
    failure: Exception | None = None

    def decode(self, samples: Samples, guess: Sequence[int]) -> Decoded:
        if self.failure:
            raise self.failure
        self.asked.append((round(len(samples) / FRAME), guess))
        return Decoded((round(len(samples) / FRAME),), (0.9,))


@dataclass
class Told:
    """Hypotheses whose one word is the token."""

    model: Model = field(default_factory=Model)
    options: StreamOptions = field(default_factory=StreamOptions)
    says_nothing: bool = False
    shows_nothing: bool = False

    def decode(self, samples: Samples, guess: Sequence[int], _judged: Samples) -> Decoded:
        return self.model.decode(samples, guess)

    def partial(self, utterance: Utterance, decoded: Decoded, _shown: Sequence[Element]) -> Partial | None:
        if self.shows_nothing:
            return None
        return Partial(0.0, utterance.end * FRAME_SECONDS, (Element(f"{decoded.tokens[0]}"),))

    def final(self, utterance: Utterance, decoded: Decoded, samples: Samples) -> Final:
        assert len(samples) // FRAME <= utterance.end - utterance.start
        elements = () if self.says_nothing else (Element(f"{decoded.tokens[0]}."),)
        return Final(utterance.start * FRAME_SECONDS, utterance.end * FRAME_SECONDS, elements)


@dataclass
class Waiting:
    """A job that the test does when it likes."""

    work: Callable[[], Any]
    urgent: bool
    result: asyncio.Future[Any]

    def hurry(self) -> None:
        self.urgent = True

    def run(self) -> None:
        if not self.result.done():
            try:
                self.result.set_result(self.work())
            except Exception as error:  # noqa: BLE001 # as the real threads do
                self.result.set_exception(error)


@dataclass
class Threads:
    """Does jobs at once, or when the test says so."""

    at_once: bool = True
    jobs: list[Waiting] = field(default_factory=list)

    def submit(self, work: Callable[[], Any], *, urgent: bool = False) -> Job[Any]:
        job = Waiting(work, urgent, asyncio.get_running_loop().create_future())
        self.jobs.append(job)
        if self.at_once:
            job.run()
        return cast("Job[Any]", job)


class Setup:
    """A stream, and what it is made of."""

    def __init__(self, *, at_once: bool = True, told: Told | None = None, audio: Format | None = MONO) -> None:
        self.now = 0.0
        self.threads = Threads(at_once)
        self.told = told or Told()
        self.closed = 0
        self.stream = Stream(
            audio,
            voice=cast("VoiceDetector", Voice()),
            segmenter=Segmenter(self.told.options.max_segment),
            hypotheses=cast("Hypotheses", self.told),
            threads=cast("DecodingThreads", self.threads),
            on_close=self._closed,
            clock=lambda: self.now,
        )

    def _closed(self) -> None:
        self.closed += 1

    async def feed(self, *sounds: bytes) -> None:
        for pcm in sounds:
            for start in range(0, len(pcm), FRAME * 2):
                await self.stream.feed(pcm[start : start + FRAME * 2])
                self.now += FRAME_SECONDS
                await asyncio.sleep(0)  # for callbacks

    async def said(self) -> list[Partial | Final]:
        """End the input; return what nobody has taken yet."""
        finishing = asyncio.create_task(self.stream.finish())
        found = []
        while (hypothesis := await self.stream.next()) is not None:
            found.append(hypothesis)
        await finishing
        return found

    async def partials(self) -> list[str]:
        """Return the text of what waits to be taken, which is a partial."""
        found = []
        while self.stream._outbox._waiting:
            hypothesis = await self.stream.next()
            assert isinstance(hypothesis, Partial)
            found.append(hypothesis.text)
        return found


LEAD = frames(BEFORE)


async def test_an_utterance_becomes_a_final_from_a_little_before_it_to_a_little_after() -> None:
    setup = Setup()
    await setup.feed(sound(SILENCE, 2.0), sound(SPEECH, 1.0), sound(SILENCE, 1.0))
    (final,) = await setup.said()
    length = frames(BEFORE) + frames(1.0) + frames(AFTER)
    assert final.text == f"{length}."
    assert final.ts == pytest.approx(2.0 - BEFORE, abs=0.05)
    assert final.end_ts == pytest.approx(3.0 + AFTER, abs=0.05)


async def test_what_is_decoded_is_what_was_heard() -> None:
    """Sample by sample, wherever the stream's buffer was cut by then."""
    setup = Setup()
    heard: list[Samples] = []
    decode = setup.told.model.decode

    def listen(samples: Samples, guess: Sequence[int]) -> Decoded:
        heard.append(samples)
        return decode(samples, guess)

    setup.told.model.decode = listen  # type: ignore[method-assign]
    audio = sound(SILENCE, 1.0) + sound(SPEECH, 1.0) + sound(SILENCE, 1.0) + sound(SPEECH, 0.5) + sound(SILENCE, 1.0)
    numbered = np.frombuffer(audio, "<i2").copy()
    await setup.feed(numbered.tobytes())
    finals = await setup.said()
    for final, samples in zip(finals, (heard[-2], heard[-1]), strict=False):
        start = round(final.ts / FRAME_SECONDS) * FRAME
        assert np.array_equal(samples, numbered[start : start + len(samples)])


async def test_looks_come_while_one_speaks_and_are_given_what_was_heard_before() -> None:
    setup = Setup()
    await setup.feed(sound(SPEECH, 2.0))
    asked = setup.told.model.asked
    assert [length for length, _ in asked] == pytest.approx([nth * frames(INTERIM_AFTER) for nth in range(1, 7)], abs=3)
    assert [guess for _, guess in asked[1:]] == [(length,) for length, _ in asked[:-1]]


async def test_only_changed_words_are_said() -> None:
    setup = Setup()
    setup.told.partial = lambda *_: Partial(0, 1, (Element("same"),))  # type: ignore[method-assign]
    await setup.feed(sound(SPEECH, 1.0))
    assert await setup.partials() == ["same"]
    await setup.feed(sound(SPEECH, 1.0))
    assert await setup.partials() == []


async def test_the_longer_a_look_took_the_later_is_the_next() -> None:
    setup = Setup(at_once=False)
    await setup.feed(sound(SPEECH, 1.0))
    (look,) = setup.threads.jobs
    look.run()  # it took most of a second
    await asyncio.sleep(0)
    took = setup.now
    await setup.feed(sound(SPEECH, 1.5))
    assert len(setup.threads.jobs) == 1
    await setup.feed(sound(SPEECH, 3.0 - 1.5))
    assert len(setup.threads.jobs) == 2
    assert not look.urgent
    assert took > 0.9


async def test_a_pause_has_the_final_ready_before_it_ends() -> None:
    setup = Setup()
    await setup.feed(sound(SPEECH, 1.0), sound(SILENCE, AFTER))
    length = frames(1.0) + frames(AFTER)
    assert setup.told.model.asked[-1][0] == length
    assert (await setup.partials())[-1] == f"{length}", "as a partial it is shown at once"
    looks = len(setup.told.model.asked)
    await setup.feed(sound(SILENCE, 1.0))
    assert len(setup.told.model.asked) == looks, "nothing more was decoded"
    assert [hypothesis.text for hypothesis in await setup.said()] == [f"{length}."]


async def test_somebody_who_speaks_on_after_a_short_pause_has_one_final() -> None:
    setup = Setup()
    await setup.feed(sound(SPEECH, 1.0), sound(SILENCE, PAUSE[0] - 0.1), sound(SPEECH, 1.0), sound(SILENCE, 1.0))
    finals = [hypothesis for hypothesis in await setup.said() if isinstance(hypothesis, Final)]
    assert len(finals) == 1
    assert finals[0].end_ts == pytest.approx(2.0 + PAUSE[0] - 0.1 + AFTER, abs=0.1)


async def test_a_final_that_is_not_ready_becomes_urgent_and_no_audio_is_taken_until_it_is() -> None:
    setup = Setup(at_once=False)
    feeding = asyncio.create_task(setup.feed(sound(SPEECH, 1.0), sound(SILENCE, 1.0), sound(SPEECH, 1.0)))
    async with asyncio.timeout(PATIENCE):
        await until(lambda: any(job.urgent for job in setup.threads.jobs))
    for _ in range(100):
        await asyncio.sleep(0)
    assert setup.now < 1.0 + PAUSE[0] + 0.1
    look, conclusion = setup.threads.jobs
    assert look.result.cancelled(), "it would tell nothing new"
    conclusion.run()
    await feeding
    assert isinstance(await setup.stream.next(), Final)
    setup.stream.close()


async def test_the_end_of_the_input_in_the_middle_of_a_word_ends_the_utterance() -> None:
    setup = Setup()
    await setup.feed(sound(SPEECH, 1.0))
    await setup.stream.feed(np.full(FRAME - 100, SPEECH, "<i2").tobytes())  # most of a frame
    *_, final = await setup.said()
    assert final.text == f"{frames(1.0) + 1}."


async def test_somebody_who_does_not_pause_is_cut_and_no_frame_is_lost_or_doubled() -> None:
    setup = Setup()
    await setup.feed(sound(SPEECH, 40.0))
    finals = [hypothesis for hypothesis in await setup.said() if isinstance(hypothesis, Final)]
    assert len(finals) >= 3
    assert [final.ts for final in finals[1:]] == [final.end_ts for final in finals[:-1]]
    assert sum(int(final.text.rstrip(".")) for final in finals) == frames(40.0)


async def test_a_partial_that_turns_out_to_be_nothing_is_taken_back() -> None:
    setup = Setup(told=Told(says_nothing=True))
    await setup.feed(sound(SPEECH, 1.0))
    assert await setup.partials()
    await setup.feed(sound(SILENCE, 1.0))
    (final,) = await setup.said()
    assert isinstance(final, Final)
    assert final.elements == ()


async def test_what_says_nothing_and_was_not_shown_is_not_mentioned() -> None:
    setup = Setup(told=Told(says_nothing=True, shows_nothing=True))
    await setup.feed(sound(SPEECH, 0.3), sound(SILENCE, 1.0))
    assert await setup.said() == []


async def test_silence_says_nothing_however_long() -> None:
    setup = Setup()
    await setup.feed(sound(SILENCE, 3 * EMPTY_FINAL_AFTER))
    assert await setup.said() == []


async def test_loud_sound_without_speech_is_said_to_have_been_heard() -> None:
    """Or our own service would take the recognizer for broken, and give it the sound again."""
    setup = Setup(told=Told(options=StreamOptions(start_ts=100.0)))
    await setup.feed(sound(NOISE, 2.5 * EMPTY_FINAL_AFTER))
    heard = await setup.said()
    assert all(isinstance(hypothesis, Final) and hypothesis.elements == () for hypothesis in heard)
    starts, ends = [final.ts - 100 for final in heard], [final.end_ts - 100 for final in heard]
    assert starts == [0.0, *ends[:-1]]
    assert ends == pytest.approx([share * EMPTY_FINAL_AFTER - BEFORE for share in (1, 2, 2.5)], abs=0.3)


async def test_a_stream_may_be_left_anywhere() -> None:
    setup = Setup(at_once=False)
    await setup.feed(sound(SPEECH, 1.0))
    setup.stream.close()
    setup.stream.close()
    assert setup.closed == 1
    assert setup.threads.jobs[0].result.cancelled()


async def test_a_look_that_fails_is_no_harm_and_a_final_that_fails_is_an_error() -> None:
    setup = Setup()
    setup.told.model.failure = RuntimeError("no memory")
    await setup.feed(sound(SPEECH, 1.0))
    with pytest.raises(RuntimeError, match="no memory"):
        await setup.feed(sound(SILENCE, 1.0))
    setup.stream.close()


async def test_a_client_that_does_not_read_is_not_heard_any_further() -> None:
    setup = Setup()
    feeding = asyncio.create_task(setup.feed(*[sound(SPEECH, 0.5) + sound(SILENCE, 1.0)] * 20))
    for _ in range(5000):
        await asyncio.sleep(0)
    assert not feeding.done()
    assert setup.now < 15.0

    async def read() -> None:
        while True:
            await setup.stream.next()

    reading = asyncio.create_task(read())
    await feeding
    reading.cancel()
    await asyncio.wait({reading})
    setup.stream.close()


async def test_a_wav_files_header_is_awaited_and_its_format_is_heard() -> None:
    setup = Setup(audio=None)
    stereo = np.repeat(np.frombuffer(sound(SPEECH, 1.0) + sound(SILENCE, 1.0), "<i2"), 2).tobytes()
    file = riff(fmt(channels=2), b"data" + len(stereo).to_bytes(4, "little") + stereo)
    assert setup.stream.piece > 0
    for start in range(0, len(file), 1000):
        await setup.stream.feed(file[start : start + 1000])
    assert setup.stream.piece == 6400, "a tenth of a second"
    *_, final = await setup.said()
    assert final.text == f"{frames(1.0) + frames(AFTER)}."


async def test_sounds_taken_for_speech_that_follow_each_other_are_said_to_have_been_heard() -> None:
    """Or our own service would take the recognizer for stuck: they have no words, and no pause between them."""
    setup = Setup(told=Told(says_nothing=True, shows_nothing=True))
    longest = setup.told.options.max_segment
    await setup.feed(sound(SPEECH, 3 * longest + 1))
    said = await setup.said()
    assert [hypothesis.elements for hypothesis in said] == [()] * len(said)
    ends = [hypothesis.end_ts for hypothesis in said]
    assert ends == sorted(ends)
    assert max(after - before for before, after in pairwise([0.0, *ends])) <= longest + 0.5


@pytest.mark.parametrize("rates", [(16000, 16000), (48000, 48000), (16000, 44100)])
@pytest.mark.parametrize("told", [None, 0xFFFFFFFF])
async def test_a_whole_wav_file_in_each_message_is_heard(rates: tuple[int, int], told: int | None) -> None:
    """As Recorder.js sends them; the sizes may be those of an encoder that did not know them."""
    setup = Setup(audio=None)
    for nth in range(8):  # a second of speech, then a second of silence
        rate = rates[nth % 2]
        samples = np.full(rate // 4, SPEECH if nth < 4 else SILENCE, "<i2").tobytes()
        await setup.stream.feed(riff(fmt(rate=rate), chunk(b"data", samples, told)))
    (final,) = [said for said in await setup.said() if isinstance(said, Final)]
    assert final.end_ts == pytest.approx(1.0 + AFTER, abs=0.1)


async def test_what_is_no_raw_audio_is_refused() -> None:
    with pytest.raises(BadRequest, match="this is FLAC, not raw samples"):
        await Setup().stream.feed(b"fLaC\x00\x00\x00\x22" + bytes(100))


@pytest.mark.parametrize("audio", [Format(8000, 1), Format(48000, 2), Format(44100, 1)])
async def test_any_rate_and_channels_will_do(audio: Format) -> None:
    setup = Setup(audio=audio)
    pieces = [np.full(int(audio.rate * 1.0) * audio.channels, value, "<i2").tobytes() for value in (SPEECH, SILENCE)]
    for pcm in pieces:
        for start in range(0, len(pcm), setup.stream.piece):
            await setup.stream.feed(pcm[start : start + setup.stream.piece])
    *_, final = await setup.said()
    assert final.end_ts == pytest.approx(1.0 + AFTER, abs=0.1)
