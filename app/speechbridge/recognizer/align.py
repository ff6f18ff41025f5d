"""Finds the time of each word: forced alignment with pocketsphinx, its only use. English only.

Pocketsphinx gets the words and the audio, and finds when each word is spoken, with an average error of 12 ms. It needs
their pronunciation. For words that are not in its dictionary, a table of letters gives one; that is good enough for
times.

Alignment holds the GIL, for 13 ms per second of audio. So it works in steps of 0.1 s of audio, between which other
threads can run. One aligner serves all threads: several would only wait for the GIL.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from pocketsphinx import Decoder

from speechbridge.audio import RATE
from speechbridge.recognizer.spoken import spoken

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

FRAMES = 100  # of the aligner, per second
STEP = RATE // 10  # samples
# Probability of a silence between two words. With pocketsphinx's default, 0.005, the last word includes up to 0.25 s of
# the silence after it.
SILENCE = 0.9
# The mean of real and synthetic recordings. Each utterance begins with it, and adapts to its own sound from there.
CEPSTRAL_MEAN = "53,4,1,19,-2,0,-1,-6,-2,-3,1,0,1"
MOST_ADDED = 2000  # words; then the dictionary is loaded anew (0.15 s), as pocketsphinx cannot forget one
LONGEST_WORD = 40  # letters of a word that is added

# Letters to ARPAbet. Pairs of letters with one sound come first.
SOUNDS = {
    "ch": "CH", "sh": "SH", "th": "TH", "ph": "F", "ck": "K", "ng": "NG", "qu": "K W", "ee": "IY", "oo": "UW",
    "ou": "AW", "ow": "OW", "ai": "EY", "ay": "EY", "ea": "IY", "oa": "OW", "oi": "OY", "oy": "OY", "au": "AO",
    "aw": "AO", "ie": "IY", "ew": "UW", "a": "AE", "b": "B", "c": "K", "d": "D", "e": "EH", "f": "F", "g": "G",
    "h": "HH", "i": "IH", "j": "JH", "k": "K", "l": "L", "m": "M", "n": "N", "o": "AA", "p": "P", "q": "K",
    "r": "R", "s": "S", "t": "T", "u": "AH", "v": "V", "w": "W", "x": "K S", "y": "Y", "z": "Z",
}  # fmt: skip

Times = tuple[float, float]


class Aligner:
    """Finds the times of words. Threads may share it."""

    def __init__(self) -> None:
        self._decoder = self._load()
        self._added = 0
        self._lock = threading.Lock()

    def align(self, samples: NDArray[np.int16], words: Sequence[str]) -> list[Times] | None:
        """Return begin and end of each word, in seconds from the first sample; None if alignment fails.

        `words` are in written form: "Mr.", "$5". Samples are 16 kHz mono.
        """
        pronounced = [spoken(word) for word in words]
        if not all(pronounced):
            return None
        try:
            with self._lock:
                found = self._segments(samples, [part for parts in pronounced for part in parts])
        except RuntimeError as error:  # of pocketsphinx, for example if the words do not fit the sound
            log.debug("no alignment: %s", error)
            return None
        if len(found) != sum(map(len, pronounced)):
            return None
        times, at = [], 0
        for parts in pronounced:
            times.append((found[at][0], found[at + len(parts) - 1][1]))
            at += len(parts)
        return times

    def _segments(self, samples: NDArray[np.int16], parts: Sequence[str]) -> list[Times]:
        if self._added >= MOST_ADDED:
            self._decoder, self._added = self._load(), 0
        for part in parts:
            if self._decoder.lookup_word(part) is None:
                self._decoder.add_word(part, pronunciation(part), update=False)
                self._added += 1
        self._decoder.reinit_feat()  # drops the adaptation to the last speaker: 60 us
        self._decoder.set_align_text(" ".join(parts))
        self._decoder.start_utt()
        try:
            for start in range(0, len(samples), STEP):
                self._decoder.process_raw(samples[start : start + STEP].tobytes())
                time.sleep(0)  # releases the GIL for other threads
        finally:
            self._decoder.end_utt()
        return [
            (segment.start_frame / FRAMES, (segment.end_frame + 1) / FRAMES)
            for segment in self._decoder.seg() or ()
            if not segment.word.startswith(("<", "[", "+"))  # silence and noises between words
        ]

    @staticmethod
    def _load() -> Decoder:
        return Decoder(lm=None, silprob=SILENCE, cmninit=CEPSTRAL_MEAN, loglevel="FATAL")


def pronunciation(word: str) -> str:
    """Guess how a word is pronounced, from its letters."""
    sounds, at = [], 0
    letters = word[:LONGEST_WORD].lower()
    while at < len(letters):
        length = 2 if letters[at : at + 2] in SOUNDS else 1
        sounds.append(SOUNDS.get(letters[at : at + length], ""))
        at += length
    return " ".join(filter(None, sounds)) or "AH"
