"""One stream: audio in, partials and finals out.

The event loop converts the audio and asks the voice detector about each frame, which is 1 ms of work for 0.1 s of
audio. What takes longer goes to the decoding threads:

- *Looks*, for partials: the utterance so far is decoded after each 0.3 s of new speech, but not before three times as
  long has passed as the last look took, waiting for a thread included. So the more streams there are, the rarer are
  their looks, and threads are left for finals.
- *Conclusions*, for finals: what belongs to the utterance is decoded, and its words are aligned. When a pause is long
  enough that nothing more would be added to the utterance, its conclusion is drawn at once. If somebody speaks on,
  that was a look; if not, the final is ready by the time that the pause ends the utterance.

While a final is awaited, no more audio is taken: a client that sends a file at once gets one thread at a time.

Sound without speech gets no words. But whoever sent it cannot know whether it was heard, and our own service takes a
recognizer for broken that says nothing under loud sound. So after ten seconds of it, and at the end of the input, a
final without elements says up to where the sound was heard.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from math import floor
from typing import TYPE_CHECKING

import numpy as np

from speechbridge.audio import RATE, SAMPLE, Converter, loudness
from speechbridge.protocol.messages import Final
from speechbridge.protocol.request import ContentType
from speechbridge.protocol.signatures import FirstBytes
from speechbridge.recognizer.moonshine import Decoded
from speechbridge.recognizer.outbox import Outbox
from speechbridge.recognizer.utterances import AFTER, Segmenter, frames
from speechbridge.recognizer.voice import FRAME, FRAME_SECONDS
from speechbridge.recognizer.wav import Format, WavReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from speechbridge.protocol.messages import Partial
    from speechbridge.recognizer.hypotheses import Hypotheses
    from speechbridge.recognizer.moonshine import Samples
    from speechbridge.recognizer.threads import DecodingThreads, Job
    from speechbridge.recognizer.utterances import Utterance
    from speechbridge.recognizer.voice import VoiceDetector

PIECE = 0.1  # seconds of audio that are taken at once: 1 ms of work
HEADER_PIECE = 4096  # bytes at once of a WAV file whose format is not known yet

LOOK_AFTER = 0.3  # seconds of new speech
LOOK_SHARE = 3.0  # times what the last look took, until the next

JUDGED = 3 * RATE  # samples at the end of an utterance: a look is for nothing if they are a steady sound

LOUD = 300.0  # root mean square of 16-bit samples; a room without a voice is 20 to 150, a voice is 1,000 to 4,000
HEARD_AFTER = 10.0  # seconds of loud sound without speech, until it is said that they were heard
HEARD_AT_END = 0.5  # the same at the end of the input


@dataclass(frozen=True, slots=True)
class Conclusion:
    """An utterance's final, and what it was written from."""

    decoded: Decoded
    final: Final


class Pace:
    """Says when an utterance may be looked at. Pure, but for the clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen = 0  # frames of speech at the last look
        self._not_before = 0.0
        self._began = 0.0

    def reset(self) -> None:
        """Begin with a new utterance."""
        self._seen = 0

    def is_due(self, speech_frames: int) -> bool:
        return speech_frames - self._seen >= frames(LOOK_AFTER) and self._clock() >= self._not_before

    def begin(self, speech_frames: int) -> None:
        self._seen, self._began = speech_frames, self._clock()

    def end(self) -> None:
        """Note that the look is over."""
        now = self._clock()
        self._not_before = now + LOOK_SHARE * (now - self._began)


class Stream:
    """Recognition of one stream. See `conversation.Recognition`."""

    def __init__(  # noqa: PLR0913 # what it is made of, by name
        self,
        audio: Format | None,
        *,
        voice: VoiceDetector,
        segmenter: Segmenter,
        hypotheses: Hypotheses,
        threads: DecodingThreads,
        on_close: Callable[[], object] = lambda: None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._wav = None if audio else WavReader()
        self._beginning = FirstBytes(
            ContentType.raw(audio.rate, audio.channels) if audio else ContentType("audio/x-wav")
        )
        self._format = audio  # None: its header will tell
        self._converter = Converter(audio.rate, audio.channels) if audio else None
        self._voice, self._segmenter = voice, segmenter
        self._hypotheses, self._threads = hypotheses, threads
        self._on_close: Callable[[], object] | None = on_close
        self._pace = Pace(clock or asyncio.get_running_loop().time)
        self._outbox = Outbox()
        self._samples = bytearray()  # 16 kHz mono S16LE, from `_first` on
        self._first = 0  # a frame
        self._next = 0  # the frame to be heard next
        self._look: Job[Decoded] | None = None
        self._conclusion: tuple[int, Job[Conclusion]] | None = None  # and up to which frame it was drawn
        self._decoded = Decoded()  # of the current utterance
        self._shown: Partial | None = None  # the same
        self._loud = 0  # frames of sound since the last final
        self._heard_until = 0.0  # seconds: the end of the last final

    @property
    def piece(self) -> int:
        return int(PIECE * self._format.bytes_per_second) if self._format else HEADER_PIECE

    async def feed(self, audio: bytes) -> None:
        if self._wav:
            await self._hear_stretches(self._wav.feed(audio))
        elif self._converter and audio:
            self._beginning.feed(audio)
            await self._hear(self._converter.feed(audio))
        await self._outbox.room()
        await asyncio.sleep(0)  # a long message leaves others their turn

    async def finish(self) -> None:
        self._beginning.finish()
        if self._wav:
            await self._hear_stretches(self._wav.finish())
        if self._converter:
            await self._hear(self._converter.finish())
        if len(self._samples) > (self._next - self._first) * FRAME * SAMPLE:
            await self._hear_frame(self._frame(self._next))  # the last one, filled up with silence
        if utterance := self._segmenter.finish():
            await self._conclude(utterance)
        self._say_heard(HEARD_AT_END)
        self._outbox.end()

    async def next(self) -> Partial | Final | None:
        return await self._outbox.get()

    def close(self) -> None:
        if self._on_close is None:
            return
        self._on_close()
        self._on_close = None
        self._drop_jobs()

    async def _hear_stretches(self, stretches: list[tuple[Format, bytes]]) -> None:
        for found, samples in stretches:
            if found != self._format:
                if self._converter:
                    await self._hear(self._converter.finish())
                self._format, self._converter = found, Converter(found.rate, found.channels)
            if self._converter:
                await self._hear(self._converter.feed(samples))

    async def _hear(self, pcm: bytes) -> None:
        self._samples += pcm
        while (self._next + 1 - self._first) * FRAME * SAMPLE <= len(self._samples):
            await self._hear_frame(self._frame(self._next))
        used = (self._segmenter.oldest - self._first) * FRAME * SAMPLE
        if used > 0:
            del self._samples[:used]
            self._first = self._segmenter.oldest

    async def _hear_frame(self, frame: Samples) -> None:
        self._next += 1
        self._loud += loudness(frame.tobytes()) >= LOUD
        if (ended := self._segmenter.hear(self._voice.hear(frame))) is not None:
            await self._conclude(ended)
        elif (utterance := self._segmenter.current) is not None:
            self._look_at(utterance)
        else:
            self._say_heard(HEARD_AFTER)

    def _look_at(self, utterance: Utterance) -> None:
        if utterance.silence == frames(AFTER):
            self._draw_conclusion(utterance)
        elif not self._is_looking() and self._pace.is_due(utterance.speech_frames):
            self._pace.begin(utterance.speech_frames)
            samples, guess = self._samples_of(utterance), self._decoded.tokens
            decode = self._hypotheses.decode
            self._look = job = self._threads.submit(lambda: decode(samples, guess, samples[-JUDGED:]))
            snapshot = utterance.copy()
            job.result.add_done_callback(lambda result: self._looked(job, snapshot, result))

    def _is_looking(self) -> bool:
        return self._look is not None or (self._conclusion is not None and not self._conclusion[1].result.done())

    def _looked(self, job: Job[Decoded], utterance: Utterance, result: asyncio.Future[Decoded]) -> None:
        if job is not self._look:
            return
        self._look = None
        self._pace.end()
        if not result.cancelled() and result.exception() is None:  # an error will come again with the final
            self._show(utterance, result.result())

    def _draw_conclusion(self, utterance: Utterance, *, urgent: bool = False) -> Job[Conclusion]:
        """Begin to decode what will be the final if nothing more is said."""
        self._drop_jobs()
        snapshot, samples, guess = utterance.copy(), self._samples_of(utterance), self._decoded.tokens
        hypotheses = self._hypotheses

        def conclude() -> Conclusion:
            decoded = hypotheses.decode(samples, guess, samples)
            return Conclusion(decoded, hypotheses.final(snapshot, decoded, samples))

        job = self._threads.submit(conclude, urgent=urgent)
        self._pace.begin(utterance.speech_frames)
        self._conclusion = utterance.end, job
        job.result.add_done_callback(lambda result: self._concluded(job, snapshot, result))
        return job

    def _concluded(self, job: Job[Conclusion], utterance: Utterance, result: asyncio.Future[Conclusion]) -> None:
        if self._conclusion is None or job is not self._conclusion[1]:
            return
        self._pace.end()
        if not result.cancelled() and result.exception() is None:  # as above
            self._show(utterance, result.result().decoded)

    async def _conclude(self, utterance: Utterance) -> None:
        """Say the final of an utterance that has ended."""
        if self._conclusion is not None and self._conclusion[0] == utterance.end:
            job = self._conclusion[1]
            job.hurry()
        else:
            job = self._draw_conclusion(utterance, urgent=True)
        self._conclusion = None  # it is no look any more
        self._drop_jobs()
        final = (await job.result).final
        if final.elements or self._shown:  # an empty final takes back what was shown
            self._say(final)
        else:  # the next utterance may have begun: sounds that are taken for speech follow each other
            self._say_heard(HEARD_AFTER)
        self._decoded, self._shown = Decoded(), None
        self._pace.reset()

    def _say_heard(self, seconds: float) -> None:
        """Say up to where the sound was heard, if so much of it was loud and without speech."""
        if self._loud * FRAME_SECONDS >= seconds:
            start = self._hypotheses.options.start_ts
            end_ts = start + floor(self._segmenter.oldest * FRAME_SECONDS * 100) / 100  # a word may begin after that
            self._say(Final(start + self._heard_until, end_ts))

    def _say(self, final: Final) -> None:
        self._heard_until = final.end_ts - self._hypotheses.options.start_ts
        self._loud = 0
        self._outbox.put(final)

    def _show(self, utterance: Utterance, decoded: Decoded) -> None:
        self._decoded = decoded
        partial = self._hypotheses.partial(utterance, decoded, self._shown.elements if self._shown else ())
        if partial and (self._shown is None or partial.elements != self._shown.elements):
            self._shown = partial
            self._outbox.put(partial)

    def _drop_jobs(self) -> None:
        look, self._look = self._look, None
        conclusion, self._conclusion = self._conclusion, None
        for job in (look, conclusion[1] if conclusion else None):
            if job is not None:
                job.result.cancel()

    def _frame(self, number: int) -> Samples:
        start = (number - self._first) * FRAME * SAMPLE
        frame = bytes(self._samples[start : start + FRAME * SAMPLE])
        return np.frombuffer(frame.ljust(FRAME * SAMPLE, b"\0"), "<i2")

    def _samples_of(self, utterance: Utterance) -> Samples:
        start, end = ((at - self._first) * FRAME * SAMPLE for at in (utterance.start, utterance.end))
        return np.frombuffer(bytes(self._samples[start:end]), "<i2")
