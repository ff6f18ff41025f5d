"""Which engine the settings choose."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from speechbridge.engines import Engine, Upstream
from speechbridge.server import create_app
from speechbridge.server.speech import choose
from speechbridge.settings import Settings, WrongSetting
from tests.helpers.service import STREAM, client, ending
from tests.helpers.service import service as running_service

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = "tests.server.test_speech"
PACKAGES = {"google": "google-cloud-speech", "riva": "nvidia-riva-client"}


def hears(audio: Iterator[bytes]) -> Iterator[str]:
    for chunk in audio:
        yield f"heard {len(chunk)}"


def fifth() -> Engine:
    return Engine("fifth", lambda _request: Upstream(hears))


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
    assert str(wrong.value).endswith(f"pip install 'speechbridge[{name}]', or {PACKAGES[name]}")
    assert "\n" not in str(wrong.value)
