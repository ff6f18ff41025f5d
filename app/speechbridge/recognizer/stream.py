"""One stream: audio in, partials and finals out.

The event loop converts the audio and runs the voice detector on each frame: 1 ms of work for 0.1 s of audio. Longer
work is done by the decoding threads, in two kinds of jobs:

- An *interim job* makes a partial: it decodes the utterance so far. One begins after each 0.3 s of new speech, but not
  before a pause of three times the duration of the last one (from its submission to its result). So with more streams
  there are fewer interim jobs for each, and threads are left for finals.
- A *final job* makes a final: it decodes the utterance, and aligns its words. It begins early: as soon as a pause is so
  long that no more of it would be added to the utterance. If speech continues, the result makes a partial; if not, the
  final is ready by the time that the pause ends the utterance.

While the stream waits for a final, it takes no more audio: a client that sends a whole file at once uses one thread at
a time.

Sound without speech gives no words. But the client must know that it was processed: our own service treats a recognizer
that sends nothing during loud sound as broken. So after ten seconds of such sound, and at the end of the input, a final
without elements reports up to which time the sound was processed.
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

PIECE = 0.1  # seconds of audio in one `feed`: 1 ms of work
HEADER_PIECE = 4096  # bytes in one `feed` of a WAV file whose format is not known yet

INTERIM_AFTER = 0.3  # seconds of new speech
INTERIM_PAUSE = 3.0  # before the next interim job, as a multiple of the duration of the last one

CHECKED = 3 * RATE  # samples at the end of an utterance that an interim job checks for a steady sound

LOUD = 300.0  # root mean square of 16-bit samples; a room without a voice is 20 to 150, a voice is 1,000 to 4,000
EMPTY_FINAL_AFTER = 10.0  # seconds of loud sound without speech
EMPTY_FINAL_AT_END = 0.5  # the same at the end of the input


@dataclass(frozen=True, slots=True)
class FinalResult:
    """The result of a final job: the final, and the decoding that it was made from."""

    decoded: Decoded
    final: Final


class Pace:
    """Decides when an interim job may begin. Pure, except for the clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._decoded_frames = 0  # frames of speech in the last job
        self._not_before = 0.0
        self._began = 0.0

    def reset(self) -> None:
        """Begin with a new utterance."""
        self._decoded_frames = 0

    def is_due(self, speech_frames: int) -> bool:
        return speech_frames - self._decoded_frames >= frames(INTERIM_AFTER) and self._clock() >= self._not_before

    def begin(self, speech_frames: int) -> None:
        self._decoded_frames, self._began = speech_frames, self._clock()

    def end(self) -> None:
        """Note that the job has ended."""
        now = self._clock()
        self._not_before = now + INTERIM_PAUSE * (now - self._began)


class Stream:
    """Recognition of one stream. See `conversation.Recognition`."""

    def __init__(  # noqa: PLR0913 # its parts, by name
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
        self._format = audio  # None: not known before the header of the WAV file
        self._converter = Converter(audio.rate, audio.channels) if audio else None
        self._voice, self._segmenter = voice, segmenter
        self._hypotheses, self._threads = hypotheses, threads
        self._on_close: Callable[[], object] | None = on_close
        self._pace = Pace(clock or asyncio.get_running_loop().time)
        self._outbox = Outbox()
        self._samples = bytearray()  # 16 kHz mono S16LE, from `_first` on
        self._first = 0  # the first frame in `_samples`
        self._next = 0  # the next frame to process
        self._interim: Job[Decoded] | None = None
        self._final: tuple[int, Job[FinalResult]] | None = None  # the frame up to which it decodes, and the job
        self._decoded = Decoded()  # of the current utterance
        self._shown: Partial | None = None  # the last partial of the current utterance
        self._loud = 0  # loud frames since the last final
        self._reported_until = 0.0  # seconds: the end of the last final

    @property
    def piece(self) -> int:
        return int(PIECE * self._format.bytes_per_second) if self._format else HEADER_PIECE

    async def feed(self, audio: bytes) -> None:
        if self._wav:
            await self._process_stretches(self._wav.feed(audio))
        elif self._converter and audio:
            self._beginning.feed(audio)
            await self._process(self._converter.feed(audio))
        await self._outbox.room()
        await asyncio.sleep(0)  # lets other streams run during a long message

    async def finish(self) -> None:
        self._beginning.finish()
        if self._wav:
            await self._process_stretches(self._wav.finish())
        if self._converter:
            await self._process(self._converter.finish())
        if len(self._samples) > (self._next - self._first) * FRAME * SAMPLE:
            await self._process_frame(self._frame(self._next))  # the last one, padded with silence
        if utterance := self._segmenter.finish():
            await self._finish_utterance(utterance)
        self._put_empty_final(EMPTY_FINAL_AT_END)
        self._outbox.end()

    async def next(self) -> Partial | Final | None:
        return await self._outbox.get()

    def close(self) -> None:
        if self._on_close is None:
            return
        self._on_close()
        self._on_close = None
        self._drop_jobs()

    async def _process_stretches(self, stretches: list[tuple[Format, bytes]]) -> None:
        for found, samples in stretches:
            if found != self._format:
                if self._converter:
                    await self._process(self._converter.finish())
                self._format, self._converter = found, Converter(found.rate, found.channels)
            if self._converter:
                await self._process(self._converter.feed(samples))

    async def _process(self, pcm: bytes) -> None:
        self._samples += pcm
        while (self._next + 1 - self._first) * FRAME * SAMPLE <= len(self._samples):
            await self._process_frame(self._frame(self._next))
        used = (self._segmenter.oldest - self._first) * FRAME * SAMPLE
        if used > 0:
            del self._samples[:used]
            self._first = self._segmenter.oldest

    async def _process_frame(self, frame: Samples) -> None:
        self._next += 1
        self._loud += loudness(frame.tobytes()) >= LOUD
        if (ended := self._segmenter.add(self._voice.detect(frame))) is not None:
            await self._finish_utterance(ended)
        elif (utterance := self._segmenter.current) is not None:
            self._decode_so_far(utterance)
        else:
            self._put_empty_final(EMPTY_FINAL_AFTER)

    def _decode_so_far(self, utterance: Utterance) -> None:
        if utterance.silence == frames(AFTER):
            self._begin_final(utterance)
        elif not self._is_decoding() and self._pace.is_due(utterance.speech_frames):
            self._pace.begin(utterance.speech_frames)
            samples, guess = self._samples_of(utterance), self._decoded.tokens
            decode = self._hypotheses.decode
            self._interim = job = self._threads.submit(lambda: decode(samples, guess, samples[-CHECKED:]))
            snapshot = utterance.copy()
            job.result.add_done_callback(lambda result: self._interim_done(job, snapshot, result))

    def _is_decoding(self) -> bool:
        return self._interim is not None or (self._final is not None and not self._final[1].result.done())

    def _interim_done(self, job: Job[Decoded], utterance: Utterance, result: asyncio.Future[Decoded]) -> None:
        if job is not self._interim:
            return
        self._interim = None
        self._pace.end()
        if not result.cancelled() and result.exception() is None:  # ignore an error: the final job will raise it
            self._show(utterance, result.result())

    def _begin_final(self, utterance: Utterance, *, urgent: bool = False) -> Job[FinalResult]:
        """Submit the final job of an utterance, which may still continue."""
        self._drop_jobs()
        snapshot, samples, guess = utterance.copy(), self._samples_of(utterance), self._decoded.tokens
        hypotheses = self._hypotheses

        def decode() -> FinalResult:
            decoded = hypotheses.decode(samples, guess, samples)
            return FinalResult(decoded, hypotheses.final(snapshot, decoded, samples))

        job = self._threads.submit(decode, urgent=urgent)
        self._pace.begin(utterance.speech_frames)
        self._final = utterance.end, job
        job.result.add_done_callback(lambda result: self._final_done(job, snapshot, result))
        return job

    def _final_done(self, job: Job[FinalResult], utterance: Utterance, result: asyncio.Future[FinalResult]) -> None:
        if self._final is None or job is not self._final[1]:
            return
        self._pace.end()
        if not result.cancelled() and result.exception() is None:  # as above
            self._show(utterance, result.result().decoded)

    async def _finish_utterance(self, utterance: Utterance) -> None:
        """Wait for the final of an utterance that has ended, and queue it."""
        if self._final is not None and self._final[0] == utterance.end:
            job = self._final[1]
            job.hurry()
        else:
            job = self._begin_final(utterance, urgent=True)
        self._final = None  # its result must not make a partial
        self._drop_jobs()
        final = (await job.result).final
        if final.elements or self._shown:  # an empty final withdraws the partial
            self._put_final(final)
        else:  # sounds that the voice detector takes for speech may follow each other without a pause
            self._put_empty_final(EMPTY_FINAL_AFTER)
        self._decoded, self._shown = Decoded(), None
        self._pace.reset()

    def _put_empty_final(self, seconds: float) -> None:
        """Queue a final without elements, if there were so many seconds of loud sound without speech."""
        if self._loud * FRAME_SECONDS >= seconds:
            start = self._hypotheses.options.start_ts
            end_ts = start + floor(self._segmenter.oldest * FRAME_SECONDS * 100) / 100  # a word may begin after that
            self._put_final(Final(start + self._reported_until, end_ts))

    def _put_final(self, final: Final) -> None:
        self._reported_until = final.end_ts - self._hypotheses.options.start_ts
        self._loud = 0
        self._outbox.put(final)

    def _show(self, utterance: Utterance, decoded: Decoded) -> None:
        self._decoded = decoded
        partial = self._hypotheses.partial(utterance, decoded, self._shown.elements if self._shown else ())
        if partial and (self._shown is None or partial.elements != self._shown.elements):
            self._shown = partial
            self._outbox.put(partial)

    def _drop_jobs(self) -> None:
        interim, self._interim = self._interim, None
        final, self._final = self._final, None
        for job in (interim, final[1] if final else None):
            if job is not None:
                job.result.cancel()

    def _frame(self, number: int) -> Samples:
        start = (number - self._first) * FRAME * SAMPLE
        frame = bytes(self._samples[start : start + FRAME * SAMPLE])
        return np.frombuffer(frame.ljust(FRAME * SAMPLE, b"\0"), "<i2")

    def _samples_of(self, utterance: Utterance) -> Samples:
        start, end = ((at - self._first) * FRAME * SAMPLE for at in (utterance.start, utterance.end))
        return np.frombuffer(bytes(self._samples[start:end]), "<i2")
