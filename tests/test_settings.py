"""Settings: read from the environment, refused with the name and what is allowed."""

from __future__ import annotations

import os

import pytest

from app.settings import REVAI_CLOUD, Settings, WrongSetting, describe
from tests.secrets import secret


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if "SPEECHBRIDGE" in name or "REVAI" in name:
            monkeypatch.delenv(name)


def test_the_command_line_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECHBRIDGE_PORT", "9000")
    monkeypatch.setenv("SPEECHBRIDGE_HOST", "")  # as docker-compose writes what is not set
    assert Settings.read().port == 9000
    assert Settings.read(port=9001, host=None) == Settings.read(port=9001)
    assert Settings.read().host == "127.0.0.1"


@pytest.mark.parametrize("variable", ["SPEECHBRIDGE_REVAI_ACCESS_TOKEN", "REVAI_ACCESS_TOKEN"])
def test_a_token_means_the_cloud_and_is_never_shown(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.read().upstream_url == ""
    monkeypatch.setenv(variable, secret())
    settings = Settings.read()
    assert settings.upstream_url == REVAI_CLOUD
    assert settings.revai_access_token.get_secret_value() == secret()
    assert secret() not in repr(settings)


def test_a_url_names_the_server_with_a_token_or_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECHBRIDGE_REVAI_URL", "ws://recognizer:8001/")
    assert Settings.read().upstream_url == "ws://recognizer:8001"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("SPEECHBRIDGE_PORT", "65536", "SPEECHBRIDGE_PORT: .*less than or equal to 65535"),
        ("SPEECHBRIDGE_PORT", "http", "SPEECHBRIDGE_PORT: .*valid integer"),
        ("SPEECHBRIDGE_MAX_SESSIONS", "0", "SPEECHBRIDGE_MAX_SESSIONS: .*greater than or equal to 1"),
        ("SPEECHBRIDGE_REVAI_URL", "http://x", "SPEECHBRIDGE_REVAI_URL: .*ws://"),
        ("SPEECHBRIDGE_RELAY_URL", "ws://", "SPEECHBRIDGE_RELAY_URL: .*not usable"),
        ("SPEECHBRIDGE_PROXY_URL", "ws://x:99999", "SPEECHBRIDGE_PROXY_URL: .*not usable"),
        ("SPEECHBRIDGE_LOG_LEVEL", "loud", "SPEECHBRIDGE_LOG_LEVEL: .*'warning'"),
    ],
)
def test_a_wrong_value_is_refused_by_name(
    variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(WrongSetting, match=said):
        Settings.read()


def test_every_setting_is_described() -> None:
    assert all(name.startswith("SPEECHBRIDGE_") and what for name, _, what in describe())
