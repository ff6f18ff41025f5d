"""Google's and Riva's SDKs pass the checks that all engines pass."""

from __future__ import annotations

import threading
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from speechbridge.backoff import Backoff
from speechbridge.engines import reconnect
from speechbridge.server.speech import choose
from speechbridge.settings import Settings
from speechbridge.testing.conformance import CHECKS, RATE, Behaviour, from_now_on
from tests.helpers.grpc_services import DIALECTS, Call, SpeechResult, grpc, serving, settings_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

    from speechbridge.engines import Engine

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "BACKOFF", Backoff(0.0, 0.0))


class Far:
    """A service that behaves as it is told."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviours = from_now_on(behaviour)
        self._lock = threading.Lock()

    def __call__(self, call: Call) -> Iterator[SpeechResult]:
        with self._lock:
            behaviour = next(self._behaviours)
        if behaviour is Behaviour.REFUSES:
            call.context.abort(grpc.StatusCode.PERMISSION_DENIED, "no")
        if behaviour is Behaviour.DEAF:
            call.stall()
        total = 0
        for chunk in call.audio():
            is_first, total = total == 0, total + len(chunk)
            if not is_first:
                continue
            if behaviour is Behaviour.ENDS_EARLY:
                return
            if behaviour is Behaviour.BREAKS:
                call.context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")
            if behaviour is Behaviour.MUTE:
                call.stall()
            yield SpeechResult((("so", 0.0, 0.1),), 0.1, is_final=False)
            if behaviour is Behaviour.MUTE_AFTER_A_PARTIAL:
                call.stall()
        if behaviour is not Behaviour.ANSWERS:
            call.stall()
        yield SpeechResult(((str(total), 0.0, 0.1), ("bytes", 0.1, total / RATE)), total / RATE, is_final=True)


@asynccontextmanager
async def subject(name: str, behaviour: Behaviour) -> AsyncIterator[Engine]:
    with serving(DIALECTS[name](), Far(behaviour)) as address:
        yield choose(Settings.read(**settings_for(name, address)))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", DIALECTS)
async def test_it_conforms(name: str, check: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    await check(partial(subject, name))
