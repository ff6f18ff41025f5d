"""Synthetic speech: each sample encodes its position, and the time of each word is known.

Words are loud, pauses are quiet. An utterance is two words and a pause that contains at least one whole chunk, wherever
chunks begin. Only the first word begins at a multiple of 10 ms, so that rounding errors show.
"""

from __future__ import annotations

import numpy as np

from speechbridge.audio import RATE

CHUNK = 3200  # samples: 200 ms
WORD = 4003
STRIDE = 4400  # from the beginning of one word to that of the next, within an utterance
UTTERANCE = 15001  # two words, and a pause of more than two chunks
SECONDS = UTTERANCE / RATE  # of an utterance


def audio(start: int, stop: int) -> bytes:
    """Return the samples between two positions: S16LE, 16 kHz, mono."""
    place = np.arange(start, stop, dtype=np.int64)
    within = place % UTTERANCE
    is_word = (within < WORD) | ((within >= STRIDE) & (within < STRIDE + WORD))
    # An odd factor permutes the 65,536 values: so each still encodes its position, and neighbours differ much: loud.
    samples = np.where(is_word, place * 40503, place & 0x7F)
    return samples.astype("<u2").tobytes()


def word(number: int) -> tuple[int, int]:
    """Return the positions at which a word begins and ends."""
    start = number // 2 * UTTERANCE + number % 2 * STRIDE
    return start, start + WORD


def word_at(position: int) -> int:
    """Return the number of the first word whose middle is not before a position."""
    number = max(0, position // UTTERANCE * 2)
    while sum(word(number)) // 2 < position:
        number += 1
    return number
