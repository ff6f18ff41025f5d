"""Decodes streams, and compares the result with the original."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from speechbridge.codecs import Decoder
from speechbridge.protocol.request import ContentType

if TYPE_CHECKING:
    from collections.abc import Iterable


def decoded(pieces: Iterable[bytes], content_type: ContentType | None = None) -> bytes:
    decoder = Decoder(content_type or ContentType.undeclared())
    samples = [pcm for piece in pieces for pcm in decoder.feed(piece)]
    return b"".join([*samples, *decoder.finish()])


def chunks(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def likeness(one: bytes, other: bytes) -> float:
    """Return the similarity of two recordings, at best 1, at the best offset between them."""
    samples = [np.frombuffer(pcm, "<i2").astype(np.float64) for pcm in (one, other)]
    size = 2 * max(map(len, samples))
    first, second = (np.fft.rfft(found, size) for found in samples)
    norm = np.sqrt(np.prod([found.dot(found) for found in samples]))
    return float(np.fft.irfft(first.conj() * second, size).max() / norm)
