"""The limits of an engine: requests that it cannot serve are refused, and messages are split to its size.

Audio in other formats is decoded and converted before it gets here (`speechbridge.codecs`). So the replay buffer holds
exactly what the engine gets.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from speechbridge.engines import UpstreamClosed
from speechbridge.protocol.close import Close, CloseCode, fit_reason
from speechbridge.protocol.media import RAW_FORMATS
from speechbridge.protocol.request import ContentType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from speechbridge.engines import Capabilities, Open, Upstream
    from speechbridge.protocol.request import StreamRequest


def refusal(request: StreamRequest, capabilities: Capabilities) -> UpstreamClosed | None:
    """Return the exception to raise for a request that an engine cannot serve; None if it can.

    If the engine names no formats, the speech service decides about raw audio that we cannot convert.
    """
    kind, language = request.content_type, str(request.options.get("language", ""))
    reason = ""
    if kind.media != ContentType.RAW and not capabilities.takes(kind):
        reason = f"this speech service does not decode {kind.media}: send audio/x-raw"
    elif kind.media == ContentType.RAW and capabilities.formats is not None and kind.format not in capabilities.formats:
        if kind.layout != "interleaved" and (kind.channels or 1) > 1:
            reason = f"{kind.channels} channels of format={kind.format} must be interleaved: send layout=interleaved"
        else:
            reason = f"format={kind.format}: send {RAW_FORMATS}"
    elif kind.media == ContentType.RAW and kind.rate not in capabilities.rates:
        reason = f"this speech service accepts rate={kind.rate} only with layout=interleaved"
    elif kind.media == ContentType.RAW and (kind.channels or 1) > capabilities.channels:
        reason = f"this speech service accepts {capabilities.channels} channel(s), interleaved"
    elif language and capabilities.languages is not None and language not in capabilities.languages:
        reason = f"this speech service knows language={', '.join(sorted(capabilities.languages))}"
    return UpstreamClosed(Close(CloseCode.BAD_REQUEST, fit_reason(reason))) if reason else None


def fitted(open_stream: Open, capabilities: Capabilities) -> Open:
    """Split the audio of streams into messages that an engine accepts: short enough, and of whole samples if it asks.

    Only the last message of a connection may end in the middle of a sample, if the audio does.
    """
    largest, whole = capabilities.largest, capabilities.whole_samples
    if largest is None and not whole:
        return open_stream

    def opened(request: StreamRequest) -> Upstream:
        upstream, frame = open_stream(request), request.content_type.frame if whole else None

        def start(audio: Iterator[bytes]) -> object:
            return upstream.start(_cut(audio, frame or 1, largest or sys.maxsize))

        return replace(upstream, start=start)  # type: ignore[arg-type] # `started` checks what the SDK returns

    return opened


def _cut(audio: Iterator[bytes], frame: int, largest: int) -> Iterator[bytes]:
    held, step = b"", max(1, largest // frame) * frame
    for chunk in audio:
        whole = held + chunk if held else chunk
        rest = len(whole) % frame
        held = whole[len(whole) - rest :] if rest else b""
        for start in range(0, len(whole) - rest, step):
            yield whole[start : min(start + step, len(whole) - rest)]
    if held:
        yield held
