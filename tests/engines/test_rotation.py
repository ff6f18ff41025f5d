"""Before its lifetime ends, a connection is replaced between two words, however the client cuts its messages."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from speechbridge.audio import RATE
from speechbridge.engines import Capabilities, Upstream, reconnect
from speechbridge.engines.reconnect import ReconnectOptions, resuming
from speechbridge.protocol.messages import Final, parse_message
from speechbridge.protocol.request import ContentType, StreamRequest
from syncbridge import Resumable
from tests.helpers import spoken
from tests.helpers.breaking_upstream import Recognition, Stream
from tests.helpers.timer import ManualTimer

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 400
LIFETIME = 60.0

pytestmark = pytest.mark.slow


class Sdk:
    """Says finals as words are heard, or all of them once its input has ended; never of a part of a word."""

    def __init__(self, stream: Stream, *, says_finals: bool) -> None:
        self._stream = stream
        self._says_finals = says_finals

    def __call__(self, request: StreamRequest) -> Upstream:
        begin = round(float(request.options.get("start_ts", 0.0)) * RATE)
        recognition = Recognition(self._stream, len(self._stream.given), begin)
        return Upstream(lambda audio: self._listen(audio, recognition))

    def _listen(self, audio: Iterator[bytes], recognition: Recognition) -> Iterator[str]:
        for chunk in audio:
            recognition.receive(chunk)
            if self._says_finals:
                yield from recognition.answers()
            else:
                yield "a partial"
        yield from recognition.answers(last=True)


@pytest.mark.parametrize("says_finals", [True, False])
@pytest.mark.parametrize("size", [800, 801, 1601, 6400, 6403, 12_801, 40_001])
def test_rotation_cuts_no_word_whatever_the_messages_sizes_are(
    size: int, *, says_finals: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a service says no final for long, a pause is found in the audio itself."""
    clock, stream = ManualTimer(), Stream(int(SECONDS / spoken.SECONDS) * spoken.UTTERANCE)
    real = Resumable[str]
    monkeypatch.setattr(reconnect, "Resumable", lambda connect, rules: real(connect, replace(rules, timer=clock)))
    pcm = spoken.audio(0, stream.length)

    def microphone() -> Iterator[bytes]:
        for start in range(0, len(pcm), size):
            clock.advance(size / (2 * RATE))
            yield pcm[start : start + size]

    options = ReconnectOptions(lifetime=LIFETIME, silence=1e6, answer=1e6)
    opened = resuming(Sdk(stream, says_finals=says_finals), options, Capabilities(room=120.0, hold=120.0))
    heard = [
        parse_message(text) for text in opened(StreamRequest(ContentType.raw())).start(microphone()) if "{" in text
    ]
    words = [word for message in heard if isinstance(message, Final) for word in message.words]
    for number, word in enumerate(words):
        assert word.value.partition("@")[0] == str(number)
        truth = [place / RATE for place in spoken.word(number)]
        assert [word.ts, word.end_ts] == pytest.approx(truth, abs=0.01), "it was cut"
    assert len(words) == spoken.word_at(stream.length)
    assert (stream.lost, stream.displaced) == (0, 0)
    assert len(stream.given) == pytest.approx(SECONDS / LIFETIME, abs=1.5)
