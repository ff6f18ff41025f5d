"""Which engine the settings choose."""

from __future__ import annotations

import json
import os
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import pytest

from speechbridge.backoff import Backoff
from speechbridge.engines import Engine, Upstream, UpstreamClosed, reconnect
from speechbridge.engines.circuit import FAILURES
from speechbridge.engines.reconnect import settled_by_final
from speechbridge.protocol.close import Close
from speechbridge.protocol.messages import Element, Final
from speechbridge.server import create_app
from speechbridge.server.speech import SpeechService, choose, choose_fallback
from speechbridge.settings import Settings, WrongSetting
from tests.helpers.service import STREAM, client, ending
from tests.helpers.service import service as running_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

HERE = "tests.server.test_speech"
PACKAGES = {"google": "google-cloud-speech", "riva": "nvidia-riva-client"}


def hears(audio: Iterator[bytes]) -> Iterator[str]:
    for chunk in audio:
        yield f"heard {len(chunk)}"


def fifth() -> Engine:
    return Engine("fifth", lambda _request: Upstream(hears))


def sixth() -> Engine:
    return Engine("sixth", lambda _request: Upstream(hears), settled=lambda _response, _begun: None)


def no_engine() -> str:
    return "an engine"


def broken_factory() -> Engine:
    raise ValueError("no model there")


@pytest.fixture(autouse=True)
def nothing_else_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if "SPEECHBRIDGE" in name or "REVAI" in name]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "embedded"),
        ({"revai_url": "ws://h"}, "revai"),
        ({"recognizer_url": "ws://h"}, "recognizer"),
        ({"recognizer_url": "ws://h", "engine": "embedded"}, "embedded"),
        ({"start": "builtins:iter", "revai_url": "ws://h"}, "function"),
        ({"start": "builtins:iter", "revai_url": "ws://h", "engine": "revai"}, "revai"),
        ({"start": "builtins:iter", "engine": f"{HERE}:fifth"}, "fifth"),
    ],
)
def test_the_settings_choose_and_what_is_named_comes_first(settings: dict[str, str], name: str) -> None:
    assert choose(Settings.read(**settings)).name == name


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"engine": "revai"}, "SPEECHBRIDGE_ENGINE: revai needs SPEECHBRIDGE_REVAI_ACCESS_TOKEN, or"),
        ({"engine": f"{HERE}:no_engine"}, f"{HERE}:no_engine makes a str, not a speechbridge.engines.Engine"),
        ({"engine": f"{HERE}:broken_factory"}, "SPEECHBRIDGE_ENGINE: no model there"),
        ({"engine": "nowhere:at_all"}, "SPEECHBRIDGE_ENGINE: 'nowhere:at_all' cannot be imported"),
        ({"engine": "googel"}, "'googel' is not one of auto, embedded, revai"),
        ({"start": "nowhere:at_all"}, "SPEECHBRIDGE_START: 'nowhere:at_all' cannot be imported"),
    ],
)
def test_a_mistake_is_named_with_its_setting(settings: dict[str, str], said: str) -> None:
    with pytest.raises(WrongSetting) as wrong:
        choose(Settings.read(**settings))
    assert said in str(wrong.value)


async def test_an_engine_that_is_given_comes_before_all_settings() -> None:
    app = create_app(Settings.read(revai_url="ws://h"), engine=fifth())
    assert b'engine="fifth"' in app.state.metrics.text()


async def test_an_engine_of_ones_own_serves_streams() -> None:
    async with running_service(None, engine=f"{HERE}:fifth") as server, client(server, STREAM) as socket:
        await socket.send(bytes(100))
        await socket.send("EOS")
        messages, close = await ending(socket)
    assert messages[-1] == "heard 100"
    assert close.code == 1000


@pytest.mark.parametrize(
    ("name", "module", "more"),
    [
        ("google", "google.cloud", {}),
        ("riva", "riva", {"riva_url": "http://h:1"}),
        ("riva", "grpc", {"riva_url": "http://h"}),
    ],
)
def test_a_missing_extra_is_said_in_a_line_with_its_cure(
    name: str, module: str, more: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for loaded in [*sys.modules]:
        if loaded.startswith(("google.cloud", "riva", "grpc", "speechbridge.engines.g", "speechbridge.engines.riva")):
            monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(WrongSetting) as wrong:
        choose(Settings.read(engine=name, **more))
    assert str(wrong.value).startswith(f"SPEECHBRIDGE_ENGINE: {name} needs a package that is missing (")
    assert str(wrong.value).endswith(f"pip install {PACKAGES[name]}, or '.[{name}]' in a checkout")
    assert "\n" not in str(wrong.value)


# ---- a fallback ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"fallback": "auto"}, "name the engine: auto would select the same one as SPEECHBRIDGE_ENGINE"),
        ({"fallback": "googel"}, "'googel' is not one of auto, embedded"),
        ({"fallback": "riva"}, "SPEECHBRIDGE_FALLBACK: riva needs SPEECHBRIDGE_RIVA_URL"),
        ({"fallback": "nowhere:at_all"}, "SPEECHBRIDGE_FALLBACK: 'nowhere:at_all' cannot be imported"),
        ({"fallback": "embedded"}, "SPEECHBRIDGE_FALLBACK: embedded is the engine itself"),
        ({"fallback": f"{HERE}:fifth"}, "SPEECHBRIDGE_FALLBACK: streams of fifth cannot be resumed"),
    ],
)
def test_a_mistake_with_the_fallback_is_named(settings: dict[str, str], said: str) -> None:
    with pytest.raises(WrongSetting) as wrong:
        create_app(Settings.read(**settings))
    assert said in str(wrong.value)


def test_a_fallback_is_made_only_where_one_is_named() -> None:
    assert choose_fallback(Settings.read(), fifth()) is None
    fallback = choose_fallback(Settings.read(fallback=f"{HERE}:sixth"), fifth())
    assert fallback
    assert fallback.name == "sixth"


def test_a_fallback_is_given_as_an_engine_too() -> None:
    """It goes before one that the settings name, and must be able to stand in as well."""
    given = replace(sixth(), name="given")
    assert choose_fallback(Settings.read(), fifth(), given) is given
    assert choose_fallback(Settings.read(fallback=f"{HERE}:sixth"), fifth(), given) is given
    text = create_app(Settings.read(), engine=fifth(), fallback=given).state.metrics.text().decode()
    assert 'speechbridge_upstream_circuit_open{engine="given"} 0.0' in text
    for wrong in (fifth(), replace(given, name="sixth", settled=None)):
        with pytest.raises(WrongSetting):
            create_app(Settings.read(), engine=fifth(), fallback=wrong)


def test_the_service_is_ready_while_one_of_the_two_is() -> None:
    first, second = fifth(), sixth()
    speech = SpeechService(first, Settings.read(), fallback=second)
    assert speech.trouble() is None
    first.health.unreachable("no such host", is_retryable=False)
    assert speech.trouble() is None
    second.health.unreachable("nor that", is_retryable=False)
    assert speech.trouble() == "no such host"


async def test_both_engines_run_while_the_service_does() -> None:
    running: list[str] = []

    @asynccontextmanager
    async def run(name: str) -> AsyncIterator[None]:
        running.append(name)
        yield
        running.remove(name)

    engines = [replace(one, running=partial(run, one.name)) for one in (fifth(), sixth())]
    async with SpeechService(engines[0], Settings.read(), fallback=engines[1]).running():
        assert running == ["fifth", "sixth"]
    assert running == []


async def test_metrics_tell_the_two_apart() -> None:
    first = fifth()
    app = create_app(Settings.read(fallback=f"{HERE}:sixth"), engine=first)
    for _ in range(FAILURES):
        first.health.circuit.count_failure()
    first.health.connected(0.1)
    text = app.state.metrics.text().decode()
    assert 'speechbridge_upstream_circuit_open{engine="fifth"} 1.0' in text
    assert 'speechbridge_upstream_circuit_open{engine="sixth"} 0.0' in text
    assert 'speechbridge_upstream_connect_seconds_count{engine="fifth"} 1.0' in text
    assert 'speechbridge_upstream_connect_failures_total{engine="sixth"} 0.0' in text
    assert 'speechbridge_upstream_connections{engine="sixth"} 0.0' in text


@pytest.mark.slow
async def test_a_client_is_told_in_a_field_that_another_engine_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "BACKOFF", Backoff(0.0, 0.0))
    engines = {"engine": f"{HERE}:dead", "fallback": f"{HERE}:says_finals"}
    async with running_service(None, **engines) as server, client(server, STREAM) as socket:
        await socket.send(bytes(32000))
        await socket.send("EOS")
        messages, close = await ending(socket)
    assert close.code == 1000
    assert json.loads(str(messages[-1]))["engine"] == "living"


def dead() -> Engine:
    def fails(_audio: Iterator[bytes]) -> NoReturn:
        raise UpstreamClosed(Close(4013, "dead"))

    return Engine("dead", lambda _request: Upstream(fails, None, b"".join), settled=settled_by_final)


def says_finals() -> Engine:
    def says(audio: Iterator[bytes]) -> Iterator[str]:
        size = sum(map(len, audio))
        yield Final(0.0, size / 32000, (Element("so"),)).encode()

    return Engine("living", lambda _request: Upstream(says, None, b"".join), settled=settled_by_final)
