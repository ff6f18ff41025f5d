"""Audio in the form that an engine takes: its rate, its channels, the size of its messages."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from speechbridge.audio import RATE, Converter
from speechbridge.engines import UpstreamClosed
from speechbridge.protocol.close import Close, CloseCode, fit_reason
from speechbridge.protocol.request import ContentType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from speechbridge.engines import Capabilities, Open, Upstream
    from speechbridge.protocol.request import StreamRequest


def refusal(request: StreamRequest, capabilities: Capabilities) -> UpstreamClosed | None:
    """Return what to raise for a request that an engine cannot serve; None if it can."""
    kind, language = request.content_type, str(request.options.get("language", ""))
    reason = ""
    if kind.media != ContentType.RAW and not capabilities.decodes:
        reason = f"{kind.media} cannot be decoded here: send audio/x-raw"
    elif kind.media == ContentType.RAW and capabilities.formats is not None and kind.format not in capabilities.formats:
        reason = f"this speech service takes format={', '.join(sorted(capabilities.formats))}"
    elif kind.media == ContentType.RAW and kind.frame is None and not _takes(kind, capabilities):
        reason = f"this speech service takes {capabilities.channels} channel(s), interleaved"
    elif language and capabilities.languages is not None and language not in capabilities.languages:
        reason = f"this speech service knows language={', '.join(sorted(capabilities.languages))}"
    return UpstreamClosed(Close(CloseCode.BAD_REQUEST, fit_reason(reason))) if reason else None


def fitted(open_stream: Open, capabilities: Capabilities) -> Open:
    """Convert and cut the audio of streams as an engine needs it."""

    def opened(request: StreamRequest) -> Upstream:
        kind = request.content_type
        takes = kind.frame is None or _takes(kind, capabilities)
        upstream = open_stream(request if takes else replace(request, content_type=ContentType.raw(RATE)))

        def start(audio: Iterator[bytes]) -> object:
            if not takes:
                audio = _converted(audio, Converter(kind.rate or RATE, kind.channels or 1))
            if capabilities.largest is not None:
                audio = _cut(audio, capabilities.largest)
            return upstream.start(audio)

        return replace(upstream, start=start)  # type: ignore[arg-type] # whatever the SDK returns: `started` judges it

    return opened


def _takes(kind: ContentType, capabilities: Capabilities) -> bool:
    return kind.rate in capabilities.rates and (kind.channels or 1) <= capabilities.channels


def _converted(audio: Iterator[bytes], converter: Converter) -> Iterator[bytes]:
    for chunk in audio:
        if pcm := converter.feed(chunk):
            yield pcm
    if pcm := converter.finish():
        yield pcm


def _cut(audio: Iterator[bytes], largest: int) -> Iterator[bytes]:
    for chunk in audio:
        for start in range(0, len(chunk), largest):
            yield chunk[start : start + largest]
