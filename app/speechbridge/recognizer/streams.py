"""All streams of the recognizer. They share one copy of the models, and the decoding threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechbridge.protocol.close import Close, CloseCode
from speechbridge.recognizer.align import Aligner
from speechbridge.recognizer.conversation import Refused
from speechbridge.recognizer.hypotheses import Hypotheses
from speechbridge.recognizer.models import load_model, load_voice_detector
from speechbridge.recognizer.moonshine import TOKENS_PER_SECOND, TOKENS_PER_SECOND_OTHERS, Moonshine
from speechbridge.recognizer.options import StreamOptions, audio_format
from speechbridge.recognizer.stream import Stream
from speechbridge.recognizer.utterances import Segmenter
from speechbridge.recognizer.voice import VoiceDetector

if TYPE_CHECKING:
    from pathlib import Path

    from speechbridge.protocol.request import StreamRequest
    from speechbridge.recognizer.models import Graph
    from speechbridge.recognizer.threads import DecodingThreads

FULL = Close(CloseCode.UNAVAILABLE, "all recognizers are busy; try again later")


class Models:
    """The models that all streams share: speech model, voice detector and aligner. 150 MB with the English model."""

    def __init__(self, folder: Path | None = None, language: str = "en") -> None:
        """Load them, in half a second. `folder` has another speech model, for `language`. Raises ModelError."""
        self.language = language
        is_english = language.lower().partition("-")[0] == "en"
        self.speech = Moonshine(load_model(folder), TOKENS_PER_SECOND if is_english else TOKENS_PER_SECOND_OTHERS)
        self.voice: Graph = load_voice_detector()
        self.aligner = Aligner() if is_english else None


class Streams:
    """Opens streams, at most `most` at once. See `conversation.Recognizer`."""

    def __init__(self, models: Models, threads: DecodingThreads, most: int) -> None:
        self._models, self._threads = models, threads
        self._most = most
        self._open = 0

    def open(self, request: StreamRequest) -> Stream:
        """Begin a stream. Raises BadRequest, or Refused if `most` streams are open."""
        audio, options = audio_format(request.content_type), StreamOptions.read(request, self._models.language)
        if self._open >= self._most:
            raise Refused(FULL)
        self._open += 1
        return Stream(
            audio,
            voice=VoiceDetector(self._models.voice),
            segmenter=Segmenter(options.max_segment),
            hypotheses=Hypotheses(self._models.speech, self._models.aligner, options),
            threads=self._threads,
            on_close=self._closed,
        )

    def _closed(self) -> None:
        self._open -= 1
