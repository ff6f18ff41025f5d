"""What is not a sync-generator SDK is named at once, with what to change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from syncbridge import Attempt, Bridge, BridgeError, Resumable, WrongStart, yielding
from tests.helpers.attempts import rules
from tests.helpers.puppet import PATIENCE, Puppet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from typing import Any


async def coroutine(_feed: Iterator[bytes]) -> list[str]:
    return ["response"]


async def async_generator(_feed: Iterator[bytes]) -> AsyncIterator[str]:
    yield "response"


class OldIterable:
    def __getitem__(self, index: int) -> str:
        return ["one", "two"][index]


MISTAKES: list[tuple[Callable[..., object], str]] = [
    (coroutine, "`async def`"),
    (async_generator, "async iterator"),
    (lambda _feed: "response", "a str, which is one response: yield it"),
    (lambda _feed: b"response", "a bytes, which is one response"),
    (lambda _feed: {"text": "response"}, "a dict, which is one response"),
    (lambda _feed: None, "returned None"),
    (lambda _feed: 1, "an int: it must yield"),
]


@pytest.mark.parametrize(("start", "named"), MISTAKES)
async def test_what_is_no_iterable_of_responses_is_named(start: Any, named: str) -> None:
    async with Bridge(start) as bridge:
        with anyio.fail_after(PATIENCE), pytest.raises(WrongStart, match=named) as raised:
            await anext(bridge)
    assert isinstance(raised.value, TypeError)
    assert isinstance(raised.value, BridgeError)
    assert len(str(raised.value).encode()) <= 123  # it fits into a close frame


@pytest.mark.parametrize(("start", "named"), MISTAKES)
def test_a_resumable_stream_names_it_too(start: Any, named: str) -> None:
    with pytest.raises(WrongStart, match=named):
        list(Resumable(lambda _position: Attempt(start), rules())(iter([b"audio"])))


@pytest.mark.parametrize("returned", [["one", "two"], ("one", "two"), iter(["one", "two"]), OldIterable()])
async def test_any_other_iterable_is_iterated(returned: Any) -> None:
    bridge: Bridge[bytes, str] = Bridge(lambda feed: (list(feed), returned)[1])
    async with bridge:
        bridge.end()
        assert [response async for response in bridge] == ["one", "two"]


@pytest.mark.parametrize(
    ("response", "named"),
    [({}, "a dict: each response must be a str"), (b"", "a bytes"), (None, "None"), (OldIterable(), "an OldIterable")],
)
async def test_a_response_of_the_wrong_type_is_named_and_the_sdk_closed(response: object, named: str) -> None:
    puppet = Puppet()
    async with Bridge(yielding(str, puppet.start)) as bridge:  # type: ignore[arg-type] # it says what it is told to
        puppet.say("one")
        puppet.say(response)
        assert await anext(bridge) == "one"
        with anyio.fail_after(PATIENCE), pytest.raises(WrongStart, match=named):
            await anext(bridge)
    assert puppet.closed_in is puppet.ran_in[0]


def test_a_checked_start_function_starts_its_sdk_when_it_is_called() -> None:
    """Otherwise a cancellation while it connects would find nothing to abort, before and after."""
    started: list[str] = []

    def eager(_feed: Iterator[bytes]) -> list[str]:
        started.append("now")
        return []

    yielding(str, eager)(iter([]))
    assert started == ["now"]


@pytest.mark.parametrize("error", [OSError, SystemExit])
@pytest.mark.parametrize("wrap", ["checked", "resumable"])
async def test_an_error_while_closing_the_responses_is_no_failure_of_a_stream_that_ended_well(
    wrap: str, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    class Responses:
        def __init__(self, feed: Iterator[bytes]) -> None:
            self._feed = feed

        def __iter__(self) -> Iterator[str]:
            return (str(len(chunk)) for chunk in self._feed)

        def close(self) -> None:
            raise error("already gone")

    if wrap == "resumable":
        whole: Any = Resumable(lambda _position: Attempt(Responses), rules())
    else:
        whole = yielding(str, Responses)
    async with Bridge(whole) as bridge:
        await bridge.send(b"audio")
        bridge.end()
        assert [response async for response in bridge] == ["5"]
    assert "already gone" in caplog.text
