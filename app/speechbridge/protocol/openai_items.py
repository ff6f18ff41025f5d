"""The items of an OpenAI realtime transcription: from the results of a speech service to the events of its items. Pure.

One item is open at a time. Who ends it is the session's choice: the service, where an utterance ends (`server_vad`),
or the client, with a commit. What happens to the open item:

    state      what comes            events                                                    then
    ---------  --------------------  --------------------------------------------------------  ---------
    none       a partial or a final  speech_started (server_vad)                               open
    none       commit                committed, item                                           committed
    open       a partial             delta: words that will hardly change                      open
    open       a final, server_vad   speech_stopped, committed, item, delta, completed         none
    open       a final, no VAD       delta                                                     open
    open       commit                speech_stopped (server_vad), committed, item              committed
    committed  a partial or a final  delta                                                     committed
    committed  flushed               completed                                                 none
    any        clear                 cleared; what was said is forgotten, its results to come  open, none

A delta appends to those before it. What the last final of an utterance says differently, as it may, `completed` tells.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from speechbridge.protocol.messages import Final
from speechbridge.protocol.openai import WrongEvent
from speechbridge.protocol.prefix import StablePrefix
from speechbridge.protocol.tokens import Token, logprob, tokens_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from speechbridge.protocol.messages import Hypothesis

TRANSCRIPTION = "conversation.item.input_audio_transcription"

Events = list[dict[str, Any]]


@dataclass(slots=True)
class _Item:
    """The open item."""

    id: str
    start: float  # seconds of audio when it began
    end: float = 0.0
    has_started: bool = False  # as the client was told
    is_committed: bool = False
    has_delta: bool = False
    tokens: list[Token] = field(default_factory=list)  # of the finals so far
    prefix: StablePrefix = field(default_factory=StablePrefix)  # of the utterance that goes on


class Items:
    """The items of one connection. Each method returns the events that are to be sent, in order."""

    def __init__(self, make_id: Callable[[], str]) -> None:
        self._make_id = make_id
        self.is_beta = False
        self.has_vad = True  # the service ends items
        self.has_logprobs = False
        self._item: _Item | None = None
        self._previous: str | None = None  # the last committed item
        self._forgets = False  # what is still to come of the audio that was cleared

    def heard(self, said: Hypothesis) -> Events:
        """Take a partial or a final."""
        if self._forgets or not (said.words or (self._item and isinstance(said, Final))):
            return []
        events = self._began(said.ts)
        item = self._item
        assert item is not None  # noqa: S101 # it has begun
        item.end = max(item.end, said.end_ts)
        if not isinstance(said, Final):
            return events + self._partial(item, said)
        tokens = tokens_of(said, after_others=bool(item.tokens))
        delta = self._delta(item, tokens[item.prefix.told :])
        item.tokens += tokens
        item.prefix = StablePrefix()
        if item.is_committed or not self.has_vad:
            return events + delta
        return [*events, *self._committed(item), *delta, *self._completed(item)]

    def commit(self, begin: float, end: float) -> Events:
        """Take the client's commit of the audio between two times. What is heard until `flushed` belongs to it.

        Raises WrongEvent if that is no audio.
        """
        if end <= begin:
            text = "Error committing input audio buffer: the buffer is empty."
            raise WrongEvent(text, "input_audio_buffer_commit_empty")
        item = self._item = self._item or _Item(self._make_id(), begin)
        item.start = item.start if item.has_started else begin
        item.end = max(item.end, end)
        return self._committed(item)

    def clear(self) -> Events:
        """Take the client's clear. What is heard until `flushed` is forgotten."""
        self._forgets = True
        if self._item is not None:  # deltas may have been sent: the next audio goes on with it
            self._item.tokens.clear()
            self._item.has_started = False
            self._item.prefix = StablePrefix()
        return [{"type": "input_audio_buffer.cleared"}]

    def flushed(self) -> Events:
        """All results of the audio so far have come."""
        forgets, self._forgets = self._forgets, False
        item = self._item
        if item is None or forgets:
            return []
        if item.is_committed:
            return self._completed(item)
        return [*self._committed(item), *self._completed(item)] if self.has_vad else []

    def _began(self, ts: float) -> Events:
        item = self._item = self._item or _Item(self._make_id(), ts)
        if not self.has_vad or item.has_started or item.is_committed:
            return []
        item.has_started = True
        return [{"type": "input_audio_buffer.speech_started", "audio_start_ms": _ms(ts), "item_id": item.id}]

    def _partial(self, item: _Item, partial: Hypothesis) -> Events:
        begin = item.prefix.told
        told = item.prefix.hear([word.value for word in partial.words], partial.end_ts)
        confidences = [word.confidence for word in partial.words[begin : begin + len(told)]]
        return self._delta(
            item, [Token(f" {word}", confidence) for word, confidence in zip(told, confidences, strict=True)]
        )

    def _delta(self, item: _Item, tokens: Sequence[Token]) -> Events:
        text = "".join(token.text for token in tokens)
        text = text if item.has_delta else text.lstrip()
        if not text:
            return []
        item.has_delta = True
        event = {"type": f"{TRANSCRIPTION}.delta", "item_id": item.id, "content_index": 0, "delta": text}
        return [event | self._logprobs(tokens)]

    def _committed(self, item: _Item) -> Events:
        item.is_committed = True
        previous, self._previous = self._previous, item.id
        events: Events = []
        if item.has_started:
            stopped = {"type": "input_audio_buffer.speech_stopped", "audio_end_ms": _ms(item.end), "item_id": item.id}
            events.append(stopped)
        events.append({"type": "input_audio_buffer.committed", "previous_item_id": previous, "item_id": item.id})
        shown = {
            "id": item.id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        kinds = ["created"] if self.is_beta else ["added", "done"]
        return events + [
            {"type": f"conversation.item.{kind}", "previous_item_id": previous, "item": shown} for kind in kinds
        ]

    def _completed(self, item: _Item) -> Events:
        self._item = None
        event = {
            "type": f"{TRANSCRIPTION}.completed",
            "item_id": item.id,
            "content_index": 0,
            "transcript": "".join(token.text for token in item.tokens).strip(),
            "usage": {"type": "duration", "seconds": round(max(item.end - item.start, 0.0), 3)},
        }
        return [event | self._logprobs(item.tokens)]

    def _logprobs(self, tokens: Sequence[Token]) -> dict[str, Any]:
        if not self.has_logprobs or any(token.confidence is None for token in tokens):
            return {}
        return {"logprobs": [logprob(token) for token in tokens]}


def _ms(seconds: float) -> int:
    return max(round(seconds * 1000), 0)
