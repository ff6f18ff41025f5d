"""The `deepgram-sdk` package, unmodified, streams speech to a service of its own process."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from deepgram import AsyncDeepgramClient, DeepgramClient
from deepgram.core.api_error import ApiError
from deepgram.environment import DeepgramClientEnvironment

from speechbridge.server.admission import make_key
from tests.helpers import clip
from tests.helpers.command import serving, url_in
from tests.helpers.encoded import FORMS, OGG, WEBM, encoded
from tests.helpers.secrets import KNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.shared_server,
    pytest.mark.filterwarnings("ignore:websockets.* deprecated:DeprecationWarning"),  # the SDK uses its old client
]

KEY, LINE = make_key("heidi")
KNOWN.add(KEY)
SENTENCE = clip.pcm(seconds=clip.FIRST_SENTENCE) + clip.silence(1.0)
ALL = {"interim_results": "true", "smart_format": "true", "vad_events": "true"}


@pytest.fixture(scope="module")
def places() -> Iterator[DeepgramClientEnvironment]:
    """Run the service with the embedded recognizer, and return its address for Deepgram's clients."""
    with serving(SPEECHBRIDGE_API_KEYS=LINE, SPEECHBRIDGE_LOG_LEVEL="error") as (_, announced):
        url = url_in(announced)
        yield DeepgramClientEnvironment(base=url, production=url, agent=url, agent_rest=url)


@dataclass
class Seen:
    """What a connection brought."""

    messages: list[Any] = field(default_factory=list)
    live: int = 0  # interim results before the last audio

    def of(self, kind: str) -> list[Any]:
        return [message for message in self.messages if message.type == kind]

    def finals(self) -> list[Any]:
        return [message for message in self.of("Results") if message.is_final]

    def words_right(self) -> float:
        heard = " ".join(final.channel.alternatives[0].transcript for final in self.finals()).lower().split()
        said = clip.READ[0].lower().split()
        return sum(word.strip(".,") in {one.strip(".,") for one in heard} for word in said) / len(said)


async def spoken(places: DeepgramClientEnvironment, audio: bytes, second: int, **asked: str) -> Seen:
    """Send audio in real time; finalize in the middle and at the end."""
    seen = Seen()
    client = AsyncDeepgramClient(api_key=KEY, environment=places)
    async with client.listen.v1.connect(model="nova-3", **asked) as connection:

        async def speak() -> None:
            pieces = [audio[start : start + second // 10] for start in range(0, len(audio), second // 10)]
            for nth, piece in enumerate(pieces):
                await connection.send_media(piece)
                await asyncio.sleep(0.1)
                if nth == len(pieces) // 2:
                    await connection.send_finalize()
                    await connection.send_keep_alive()
            seen.live = len(seen.of("Results"))
            await connection.send_finalize()
            await connection.send_close_stream()

        speaking = asyncio.create_task(speak())
        async for message in connection:
            seen.messages.append(message)
        await speaking
    return seen


KINDS: dict[str, tuple[bytes, int, dict[str, str]]] = {
    "linear16": (SENTENCE, 32000, {"encoding": "linear16", "sample_rate": "16000"}),
    "ogg-opus": (encoded(SENTENCE, OGG), 4000, {"encoding": "ogg-opus"}),
    "webm": (encoded(SENTENCE, WEBM), 4000, {}),
    "flac": (encoded(SENTENCE, FORMS[23]), 16000, {"encoding": "flac"}),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_speech_is_heard_live_and_right(kind: str, places: DeepgramClientEnvironment) -> None:
    audio, second, asked = KINDS[kind]
    seen = await spoken(places, audio, second, **asked, **ALL)
    assert seen.live > 0
    assert seen.words_right() >= 0.75  # the Finalize may cut a word
    assert sum(message.from_finalize for message in seen.of("Results")) == 2
    assert seen.of("SpeechStarted")
    assert seen.messages[-1].type == "Metadata"
    assert abs(seen.messages[-1].duration - len(SENTENCE) / 32000) < 0.3
    ends = 0.0
    for final in seen.finals():
        [alternative] = final.channel.alternatives
        assert alternative.transcript == " ".join(word.punctuated_word for word in alternative.words)
        for word in alternative.words:
            assert ends - 0.2 <= word.start <= word.end <= len(SENTENCE) / 32000
            assert 0 <= word.confidence <= 1
            ends = word.end


def test_the_sync_client(places: DeepgramClientEnvironment) -> None:
    seen = Seen()
    client = DeepgramClient(api_key=KEY, environment=places)
    with client.listen.v1.connect(model="nova-3", encoding="linear16", sample_rate="16000") as connection:

        def speak() -> None:
            for start in range(0, len(SENTENCE), 3200):
                connection.send_media(SENTENCE[start : start + 3200])
                time.sleep(0.03)
            connection.send_close_stream()

        speaking = threading.Thread(target=speak)
        speaking.start()
        seen.messages.extend(connection)
        speaking.join()
    assert seen.words_right() >= 0.9
    assert seen.messages[-1].type == "Metadata"


@pytest.mark.parametrize(
    ("asked", "status"), [({"encoding": "speex"}, 400), ({"diarize": "true"}, 400), ({"language": "en"}, 401)]
)
async def test_a_refusal_is_an_api_error(asked: dict[str, Any], status: int, places: DeepgramClientEnvironment) -> None:
    client = AsyncDeepgramClient(api_key="wrong" if status == 401 else KEY, environment=places)
    with pytest.raises(ApiError) as caught:
        async with client.listen.v1.connect(model="nova-3", **asked):
            pass
    assert caught.value.status_code == status


async def test_twenty_connections_one_after_the_other_are_clean(places: DeepgramClientEnvironment) -> None:
    """Each finalizes silence and closes: no close code is lost."""
    for _ in range(20):
        client = AsyncDeepgramClient(api_key=KEY, environment=places)
        async with client.listen.v1.connect(model="any", encoding="mulaw", sample_rate="8000") as connection:
            await connection.send_media(bytes([255]) * 800)
            await connection.send_finalize()
            assert (await connection.recv()).from_finalize
            await connection.send_close_stream()
            kinds = [json.loads(message.json())["type"] async for message in connection]
        assert kinds == ["Metadata"]
