"""One stream's recognition with pocketsphinx: 16 kHz mono samples in, hypotheses out. Sync; belongs to one thread.

Where things come from:
- *Utterances* are found by pocketsphinx's `Endpointer`, but not fed from it: it hands each frame out a window (0.3 s)
  after it came, and partials would be so much later. The same words come out either way. The input's end is heard as
  silence, so a last word has the same chance as one in the middle.
- *Times* are the decoder's frames of 10 ms, counted from the utterance's first sample.
- A final word's *confidence* is its posterior probability in the utterance's word lattice, computed with the best
  path at the utterance's end. The same word at slightly other times counts as another: rather too low than too high.
  Before the end pocketsphinx has none (`seg.prob` is 1.0 for every word), so in a detailed partial it is the word's
  stability: seen n times in a row at its place, it is seen again with probability (n + 1) / (n + 2), by Laplace's
  rule of succession.

Settings were chosen on five recordings of 53 words (two phrases, three readings). With pocketsphinx's own there were
20 word errors. Turning `fwdflat` (a second pass at the utterance's end) off left 18, and takes the end of an utterance
of 30 s from 0.9 s to 0.14 s, in which the process's other streams wait. The cepstral mean to begin with left 8; that
is partly self-praise, as the mean is theirs: 10 are left when phrases and readings are given each other's mean.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from pocketsphinx import Decoder, Endpointer

from speechbridge.audio import RATE, SAMPLE
from speechbridge.protocol.messages import Element, Final, Partial

if TYPE_CHECKING:
    from collections.abc import Sequence

    from speechbridge.recognizer.requests import Settings

CEPSTRAL_MEAN = "55,3,-3,18,-5,0,-6,-6,-1,-2,-2,-3,0"  # of the five recordings; adapts to the speaker from there

CONFIDENCE_SCALE = 10.0  # of the acoustic score in posteriors; with pocketsphinx's 20 they average 0.64, for 88 % right

WINDOW = 0.3  # seconds without speech that end an utterance; 0.5 s found no word more
RATIO = 0.9  # of the window that must be speech to begin: words from 0.2 s on are found
VAD_MODE = 1  # 0 is the loosest, 3 the strictest; 2 and 3 miss short words

LOOK = 0.1  # seconds of speech between two looks for a new partial
SILENCE = 40  # frames of 30 ms heard after the end: ten may begin a last word's utterance, fifteen more end it

FRAMES = 100  # of the decoder, a second
SPACE = Element(" ", "punct")

VARIANT = re.compile(r"\(\d+\)$")  # "and(2)": the second pronunciation
FILLER = ("<", "[", "+")  # <s>, </s>, <sil>, [NOISE], ++YIELD_EVERY++


def load() -> Decoder:
    """Load a decoder: 0.3 s and about 93 MB."""
    return Decoder(loglevel="FATAL", fwdflat=False, cmninit=CEPSTRAL_MEAN, ascale=CONFIDENCE_SCALE)


class Recognition:
    """One stream, with a decoder to itself."""

    def __init__(self, decoder: Decoder, settings: Settings) -> None:
        self._decoder = decoder
        self._settings = settings
        self._endpointer = Endpointer(window=WINDOW, ratio=RATIO, vad_mode=VAD_MODE, sample_rate=RATE)
        self._frame = self._endpointer.frame_bytes
        self._rest = b""  # less than a frame of the endpointer
        self._frames = 0  # of the endpointer, so far
        self._window: deque[bytes] = deque(maxlen=round(WINDOW / self._endpointer.frame_length))
        self._utterance: _Utterance | None = None
        decoder.reinit_feat()  # forgets the last speaker's cepstral mean and noise: 60 us

    def feed(self, pcm: bytes) -> list[Partial | Final]:
        """Hear 16 kHz mono S16LE, any number of bytes; return what is new."""
        pcm = self._rest + pcm
        whole = len(pcm) - len(pcm) % self._frame
        self._rest = pcm[whole:]
        heard: list[Partial | Final] = []
        for start in range(0, whole, self._frame):
            heard += self._hear(pcm[start : start + self._frame])
        return heard

    def finish(self) -> list[Partial | Final]:
        """Hear silence until the last utterance has ended; return what is new."""
        heard = self.feed(bytes(self._frame))  # completes a frame that had begun
        for _ in range(SILENCE):
            heard += self._hear(bytes(self._frame))
        if self._utterance:
            heard += self._utterance.end()
            self._utterance = None
        return heard

    def close(self) -> Decoder:
        """Give the decoder back, ready for another stream, wherever this one stands."""
        if self._utterance:
            self._decoder.end_utt()
            self._utterance = None
        return self._decoder

    def _hear(self, frame: bytes) -> list[Partial | Final]:
        was_in_speech = self._endpointer.in_speech
        self._endpointer.process(frame)  # its answer is the frame of a window ago: partials cannot wait for that
        self._window.append(frame)
        self._frames += 1
        if not was_in_speech and self._endpointer.in_speech:
            start = self._endpointer.speech_start
            self._utterance = _Utterance(self._decoder, self._settings, start)
            begun = self._frames - round(start / self._endpointer.frame_length)
            frame = b"".join(self._window)[-begun * self._frame :]
        if not self._utterance:
            return []
        heard: list[Partial | Final] = [*self._utterance.hear(frame)]
        if not self._endpointer.in_speech:
            heard += self._utterance.end()
            self._utterance = None
        elif self._utterance.seconds >= self._settings.max_segment:
            heard += self._utterance.end()
            end = self._utterance.start + self._utterance.seconds
            self._utterance = _Utterance(self._decoder, self._settings, end)
        return heard


class _Utterance:
    """What one says between two silences. `start` and `seconds` are the stream's own, without its `start_ts`."""

    def __init__(self, decoder: Decoder, settings: Settings, start: float) -> None:
        self.start = start
        self.seconds = 0.0
        self._decoder = decoder
        self._settings = settings
        self._look = LOOK
        self._shown: tuple[str, ...] = ()
        self._standing: list[tuple[str, int]] = []  # each word of the last look: in how many looks in a row
        decoder.start_utt()

    def hear(self, speech: bytes) -> list[Partial]:
        """Decode some more; return a partial when it is time to look and the words have changed."""
        self._decoder.process_raw(speech)
        self.seconds += len(speech) / (RATE * SAMPLE)
        if self.seconds < self._look:
            return []
        self._look = self.seconds + LOOK
        elements = tuple(self._stable(self._elements()))
        words = tuple(element.value for element in elements)
        if words == self._shown:
            return []
        self._shown = words
        if not self._settings.detailed_partials:
            return [Partial(*self._span(elements), tuple(Element(word) for word in words))]
        return [Partial(*self._span(elements), elements)]

    def end(self) -> list[Final]:
        """End the utterance; return its final.

        There is none where nothing was recognised, a cough say. But where a partial had been shown, an empty final
        takes it back.
        """
        self._decoder.end_utt()
        words = self._elements()
        if not words and not self._shown:
            return []
        spaced = [element for word in words for element in (word, SPACE)][:-1]
        return [Final(*self._span(words), tuple(spaced))]

    def _elements(self) -> list[Element]:
        offset = self._settings.start_ts + self.start
        return [
            Element(
                VARIANT.sub("", segment.word),
                "text",
                round(offset + segment.start_frame / FRAMES, 2),
                round(offset + (segment.end_frame + 1) / FRAMES, 2),  # pocketsphinx counts its last frame in
                round(min(max(segment.prob, 0.0), 1.0), 2),  # its logarithms are rounded: 1.0003 occurs
            )
            for segment in self._decoder.seg() or ()
            if not segment.word.startswith(FILLER)
        ]

    def _stable(self, elements: list[Element]) -> list[Element]:
        """Give each word its stability for confidence; see the top of this file."""
        before = self._standing + [("", 0)] * len(elements)
        self._standing = [
            (element.value, looks + 1 if word == element.value else 1)
            for element, (word, looks) in zip(elements, before, strict=False)
        ]
        return [
            replace(element, confidence=round((looks + 1) / (looks + 2), 2))
            for element, (_, looks) in zip(elements, self._standing, strict=True)
        ]

    def _span(self, elements: Sequence[Element]) -> tuple[float, float]:
        """When the first word begins and the last one ends; the whole utterance, if there is none."""
        offset = self._settings.start_ts + self.start
        start = elements[0].ts if elements else round(offset, 2)
        end = elements[-1].end_ts if elements else round(offset + self.seconds, 2)
        return start or 0.0, end or 0.0
