"""Any callable as an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from speechbridge.engines.function import plain
from speechbridge.protocol.request import ContentType, StreamRequest
from syncbridge import WrongStart

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUEST = StreamRequest(ContentType.raw())


def one(audio: Iterator[bytes]) -> Iterator[str]:
    yield from (str(chunk) for chunk in audio)


def one_with_default(audio: Iterator[bytes], language: str = "en") -> Iterator[str]:
    yield f"{language} {list(audio)}"


def two(audio: Iterator[bytes], request: StreamRequest) -> Iterator[str]:
    yield f"{request.content_type.rate} {list(audio)}"


class Client:
    def start(self, audio: Iterator[bytes], request: StreamRequest) -> Iterator[str]:
        yield from two(audio, request)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (one, "b'a'"),
        (one_with_default, "en [b'a']"),
        (two, "16000 [b'a']"),
        (Client().start, "16000 [b'a']"),
        (map, None),
    ],
)
def test_the_signature_decides_whether_the_request_is_passed(start: object, said: str | None) -> None:
    upstream = plain(start)(REQUEST)  # type: ignore[arg-type] # one of them is no such thing, on purpose
    if said is not None:
        assert list(upstream.start(iter([b"a"]))) == [said]


def test_chunks_stay_as_they_were_sent_however_many_wait() -> None:
    assert plain(one)(REQUEST).join is None


@pytest.mark.parametrize("response", [{"text": "hello"}, b"hello", None])
def test_a_response_that_is_no_message_is_named_at_the_first(response: object) -> None:
    upstream = plain(lambda _audio: iter([response]))(REQUEST)  # type: ignore[arg-type, return-value] # the mistake
    with pytest.raises(WrongStart, match="must be a str"):
        list(upstream.start(iter([])))
