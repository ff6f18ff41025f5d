"""NVIDIA Riva as an engine, through its unmodified SDK.

Observed flaws of the SDK, and what this module does about them:

- Its `streaming_response_generator` cannot be cancelled while it runs. This module makes the same gRPC call itself,
  with the SDK's stub and requests: a call can be cancelled.
- A result has no end time: the end of its last word is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import riva.client

from speechbridge.engines import Capabilities, Engine, Upstream
from speechbridge.engines.grpc_call import Call, options
from speechbridge.engines.grpc_channels import Channels
from speechbridge.engines.health import Health
from speechbridge.engines.options import language_of, phrases_of, start_of
from speechbridge.engines.reconnect import settled_by_final
from speechbridge.engines.transcript import Transcript, Word

if TYPE_CHECKING:
    from collections.abc import Iterator

    from speechbridge.protocol.request import StreamRequest

CAPABILITIES = Capabilities(
    formats=frozenset({"S16LE"}),
    channels=1,  # its streaming models are mono
    largest=2**16,  # bytes; gRPC's own limit is 4 MiB
    whole_samples=True,
    lifetime=3_300.0,  # its servers may be configured to end a stream after an hour
    tail=0.5,  # the end of a final is the end of its last word
)
BOOST = 20.0  # of a boosted word: NVIDIA advises 20 to 100
MOST_SPEAKERS = 6
DEADLINE = 3_900.0  # seconds of a call: longer than a stream can last, so that no call runs on for ever


@dataclass(frozen=True, slots=True)
class RivaOptions:
    """Where Riva is, http:// or https://, and what it uses. `key` and `function` are for NVIDIA's cloud."""

    url: str
    model: str = ""
    key: str = ""
    function: str = ""
    language: str = "en"


def riva_engine(given: RivaOptions, connect_seconds: float) -> Engine:
    """Make the engine."""
    where = urlsplit(given.url)
    metadata = [["authorization", f"Bearer {given.key}"]] if given.key else []
    metadata += [["function-id", given.function]] if given.function else []

    def make() -> tuple[Any, Any]:
        target = f"{where.hostname}:{where.port or (443 if where.scheme == 'https' else 50051)}"
        auth = riva.client.Auth(
            uri=target, use_ssl=where.scheme == "https", metadata_args=metadata, options=options(connect_seconds)
        )
        return auth.channel, riva.client.ASRService(auth)

    def open_stream(request: StreamRequest) -> Upstream:
        transcript = Transcript(start_of(request))

        def begin(service: Any, audio: Iterator[bytes]) -> Any:
            requests = riva.client.asr.streaming_request_generator(audio, config(request, given.language, given.model))
            return service.stub.StreamingRecognize(
                requests, metadata=service.auth.get_auth_metadata(), timeout=DEADLINE
            )

        call = Call(channels, health, connect_seconds, begin, lambda each: messages(each, transcript), given.key)
        return Upstream(call.start, call.abort, b"".join)

    channels, health = Channels(make), Health()
    return Engine("riva", open_stream, CAPABILITIES, settled_by_final, health, channels.running)


def config(request: StreamRequest, language: str, model: str) -> Any:
    """Return Riva's configuration for a stream of 16-bit samples with a client's options."""
    kind, asked = request.content_type, request.options
    config = riva.client.RecognitionConfig(
        encoding=riva.client.AudioEncoding.LINEAR_PCM,
        sample_rate_hertz=kind.rate,
        audio_channel_count=1,
        language_code=language_of(asked, language),
        model=model,
        max_alternatives=1,
        profanity_filter=bool(asked.get("filter_profanity")),
        enable_word_time_offsets=True,
        enable_automatic_punctuation=not asked.get("skip_postprocessing"),
    )
    riva.client.add_word_boosting_to_config(config, phrases_of(asked) or None, BOOST)
    riva.client.add_speaker_diarization_to_config(config, bool(asked.get("enable_speaker_switch")), MOST_SPEAKERS)
    return riva.client.StreamingRecognitionConfig(config=config, interim_results=True)


def messages(response: Any, transcript: Transcript) -> Iterator[str]:
    """Yield our messages for a response: the finals, then one partial of all interim results."""
    interim, until = "", 0.0
    for result in response.results:
        best = result.alternatives[0] if result.alternatives else None
        if best is not None and result.is_final:
            if message := transcript.final(best.transcript, [_word(word) for word in best.words]):
                yield message
        elif best is not None:
            interim, until = interim + best.transcript, max(until, result.audio_processed)
    if interim:
        yield transcript.partial(interim, until)


def _word(word: Any) -> Word:
    speaker = str(word.speaker_tag) if word.speaker_tag else None
    return Word(word.word, word.start_time / 1000, word.end_time / 1000, round(word.confidence, 3) or None, speaker)
