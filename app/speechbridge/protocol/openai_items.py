"""The items of an OpenAI realtime transcription: turns results of the speech service into events of items. Pure.

One item is open at a time. The session's settings decide who ends it: the service, where an utterance ends
(`server_vad`), or the client, with a commit. The states of the open item:

    state      input                 events                                                    next state
    ---------  --------------------  --------------------------------------------------------  ---------
    none       a partial or a final  speech_started (server_vad)                               open
    none       commit                committed, item                                           committed
    open       a partial             delta: words that are stable (`protocol.prefix`)          open
    open       a final, server_vad   speech_stopped, committed, item, delta, completed         none
    open       a final, no VAD       delta                                                     open
    open       commit                speech_stopped (server_vad), committed, item              committed
    committed  a partial or a final  delta                                                     committed
    committed  flushed               completed                                                 none
    any        clear                 cleared; the results of audio so far are dropped          open, none

A delta is appended to earlier ones. If the final differs from the partials before it, only `completed` has the final's
text.
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
    has_started: bool = False  # speech_started was sent
    is_committed: bool = False
    has_delta: bool = False
    tokens: list[Token] = field(default_factory=list)  # of the finals so far
    prefix: StablePrefix = field(default_factory=StablePrefix)  # of the current utterance


class Items:
    """The items of one connection. Each method returns the events to send, in order."""

    def __init__(self, make_id: Callable[[], str]) -> None:
        self._make_id = make_id
        self.is_beta = False
        self.has_vad = True  # the service ends items
        self.has_logprobs = False
        self._item: _Item | None = None
        self._previous: str | None = None  # the id of the last committed item
        self._is_cleared = False  # results are dropped until those of the cleared audio have arrived

    def add(self, result: Hypothesis) -> Events:
        """Add a partial or a final."""
        if self._is_cleared or not (result.words or (self._item and isinstance(result, Final))):
            return []
        events = self._began(result.ts)
        item = self._item
        assert item is not None  # noqa: S101 # `_began` sets it
        item.end = max(item.end, result.end_ts)
        if not isinstance(result, Final):
            return events + self._partial(item, result)
        tokens = tokens_of(result, after_others=bool(item.tokens))
        delta = self._delta(item, tokens[item.prefix.emitted :])
        item.tokens += tokens
        item.prefix = StablePrefix()
        if item.is_committed or not self.has_vad:
            return events + delta
        return [*events, *self._committed(item), *delta, *self._completed(item)]

    def commit(self, begin: float, end: float) -> Events:
        """Handle the client's commit of the audio between two times. Results up to `flushed` belong to this item.

        Raises WrongEvent if there is no audio between them.
        """
        if end <= begin:
            text = "Error committing input audio buffer: the buffer is empty."
            raise WrongEvent(text, "input_audio_buffer_commit_empty")
        item = self._item = self._item or _Item(self._make_id(), begin)
        item.start = item.start if item.has_started else begin
        item.end = max(item.end, end)
        return self._committed(item)

    def clear(self) -> Events:
        """Handle the client's clear. Results up to `flushed` are dropped."""
        self._is_cleared = True
        if self._item is not None:  # its deltas may have been sent, so the next audio continues this item
            self._item.tokens.clear()
            self._item.has_started = False
            self._item.prefix = StablePrefix()
        return [{"type": "input_audio_buffer.cleared"}]

    def flushed(self) -> Events:
        """Note that all results of the audio so far have arrived."""
        was_cleared, self._is_cleared = self._is_cleared, False
        item = self._item
        if item is None or was_cleared:
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
        begin = item.prefix.emitted
        stable = item.prefix.update([word.value for word in partial.words], partial.end_ts)
        confidences = [word.confidence for word in partial.words[begin : begin + len(stable)]]
        return self._delta(
            item, [Token(f" {word}", confidence) for word, confidence in zip(stable, confidences, strict=True)]
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
