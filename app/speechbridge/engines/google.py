"""Google Cloud Speech as an engine, v1 and v2, through its unmodified SDK.

Observed flaws of the SDK, and what this module does about them:

- By default it repeats a failed call, with an audio iterator that is partly consumed: retries are switched off.
- It waits for the first response inside the call, so until then there is nothing to cancel. This is switched off with
  the private `_prefetch_first_result_`, as Google's Pub/Sub client does; tests/engines/test_google_canary.py fails when
  the code that reads it changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import google.auth
import google.auth.exceptions
from google.cloud import speech_v1 as v1
from google.cloud import speech_v2 as v2

from speechbridge.engines import Capabilities, Engine, Upstream
from speechbridge.engines.google_config import config_v1, config_v2, messages
from speechbridge.engines.grpc_call import BY_NUMBER, Call, insecure, options
from speechbridge.engines.grpc_channels import Channels
from speechbridge.engines.health import Health
from speechbridge.engines.options import start_of
from speechbridge.engines.reconnect import settled_by_final
from speechbridge.engines.transcript import Transcript

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from speechbridge.protocol.request import StreamRequest

CAPABILITIES = Capabilities(
    formats=frozenset({"S16LE"}),
    channels=1,  # of several channels it transcribes the first only, or bills each
    largest=25_600,  # bytes: v2 refuses more
    whole_samples=True,
    lifetime=285.0,  # it ends a stream after about 305 s
    room=150.0,  # its finals may lie 50 to 100 s apart
    hold=120.0,
    tail=0.2,  # the end times of its finals are exact
)
DEADLINE = 360.0  # seconds of a call: longer than a stream can last, so that no call runs on for ever


@dataclass(frozen=True, slots=True)
class GoogleOptions:
    """Where Google Cloud Speech is, and what it uses. With http:// the `endpoint` is not encrypted."""

    version: str = "v2"
    project: str = ""
    location: str = "global"
    model: str = ""
    endpoint: str = ""
    language: str = "en"


def google_engine(given: GoogleOptions, connect_seconds: float) -> Engine:
    """Make the engine. Raises ValueError if there are no credentials, or no project."""
    speech: Any = v1 if given.version == "v1" else v2
    credentials, project = (None, None) if given.endpoint.startswith("http://") else _credentials()
    project = given.project or project
    if not project and given.version == "v2":
        raise ValueError("v2 needs SPEECHBRIDGE_GOOGLE_PROJECT")
    recognizer = f"projects/{project}/locations/{given.location}/recognizers/_"
    regional = "" if given.location == "global" else f"{given.location}-"
    host = given.endpoint.removeprefix("https://") or f"{regional}speech.googleapis.com"

    def make() -> tuple[Any, Any]:
        transport = speech.SpeechClient.get_transport_class("grpc")
        if credentials is None:
            channel = insecure(host.removeprefix("http://"), connect_seconds)
        else:
            channel = transport.create_channel(host, credentials=credentials, options=options(connect_seconds))
        client = speech.SpeechClient(transport=transport(channel=channel, host=host.removeprefix("http://")))
        client.transport.streaming_recognize._prefetch_first_result_ = False  # see above
        return channel, client

    def open_stream(request: StreamRequest) -> Upstream:
        transcript = Transcript(start_of(request))

        def begin(client: Any, audio: Iterator[bytes]) -> Any:
            if speech is v1:
                config = config_v1(request, given.language, given.model)
                requests: Iterable[Any] = (v1.StreamingRecognizeRequest(audio_content=chunk) for chunk in audio)
                return client.streaming_recognize(config, requests, retry=None, timeout=DEADLINE)
            config = config_v2(request, given.language, given.model)
            requests = _requests_v2(v2.StreamingRecognizeRequest(recognizer=recognizer, streaming_config=config), audio)
            return client.streaming_recognize(requests=requests, retry=None, timeout=DEADLINE)

        def read(response: Any) -> Iterator[str]:
            message = type(response).pb(response)
            if speech is v1 and message.error.code:
                raise call.ended(BY_NUMBER.get(message.error.code, "UNKNOWN"), message.error.message)
            yield from messages(message, transcript)

        call = Call(channels, health, connect_seconds, begin, read)
        return Upstream(call.start, call.abort, b"".join)

    channels, health = Channels(make), Health()
    return Engine("google", open_stream, CAPABILITIES, settled_by_final, health, channels.running)


def _requests_v2(first: Any, audio: Iterator[bytes]) -> Iterator[Any]:
    yield first
    for chunk in audio:
        yield v2.StreamingRecognizeRequest(audio=chunk)


def _credentials() -> tuple[Any, str | None]:
    try:
        found: tuple[Any, str | None] = google.auth.default()
    except google.auth.exceptions.GoogleAuthError as error:
        raise ValueError(f"no credentials: {str(error).partition('.')[0]}") from None
    return found
