"""Settings: read from the environment, refused with the name and what is allowed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from speechbridge.server.admission import make_key
from speechbridge.server.app import create_app
from speechbridge.settings import REVAI_CLOUD, Settings, WrongSetting, describe, misspelled, split
from tests.helpers.secrets import secret


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
        ("SPEECHBRIDGE_TRUSTED_PROXIES", "10.0.0.0/8, caddy", "SPEECHBRIDGE_TRUSTED_PROXIES: 'caddy' does not appear"),
        ("SPEECHBRIDGE_ORIGINS", "https://ok.example, example.org", "SPEECHBRIDGE_ORIGINS: 'example.org' is no origin"),
        ("SPEECHBRIDGE_ORIGINS", "https://ok.example/", "SPEECHBRIDGE_ORIGINS: 'https://ok.example/' is no origin"),
        ("SPEECHBRIDGE_SESSION_SECONDS", "inf", "SPEECHBRIDGE_SESSION_SECONDS: .*finite number"),
        ("SPEECHBRIDGE_LOG_LEVEL", "loud", "SPEECHBRIDGE_LOG_LEVEL: .*'warning'"),
    ],
)
def test_a_wrong_value_is_refused_by_name(
    variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(WrongSetting, match=said):
        Settings.read()


def test_a_misspelled_setting_is_named_with_what_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECHBRIDGE_MAX_SESION", "3")
    monkeypatch.setenv("SPEECHBRIDGE_PORT_8000_TCP_ADDR", "10.0.0.1")  # Kubernetes' doing, for a service of our name
    monkeypatch.setenv("SPEECHBRIDGE_PORT", "9000")
    assert misspelled() == [("SPEECHBRIDGE_MAX_SESION", "SPEECHBRIDGE_MAX_SESSIONS")]


def test_every_setting_is_in_the_table_of_the_docs() -> None:
    table = (Path(__file__).parents[1] / "docs" / "settings.md").read_text()
    for name, default, what in describe():
        assert name.startswith("SPEECHBRIDGE_")
        assert what
        assert f"| `{name}` | {f'`{default}`' if default else ''} | {what} |\n" in table


def test_secrets_come_from_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("S3CRET\n")
    (tmp_path / "keys").write_text("# who may come in\nalice:1\nbob:2\n")
    monkeypatch.setenv("SPEECHBRIDGE_REVAI_ACCESS_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("SPEECHBRIDGE_API_KEYS_FILE", str(tmp_path / "keys"))
    monkeypatch.setenv("SPEECHBRIDGE_API_KEYS", "carol:3")
    settings = Settings.read()
    assert settings.revai_access_token.get_secret_value() == "S3CRET"
    assert split(settings.api_keys.get_secret_value()) == ["alice:1", "bob:2", "carol:3"]


def test_an_empty_secret_file_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").touch()
    monkeypatch.setenv("SPEECHBRIDGE_REVAI_ACCESS_TOKEN_FILE", str(tmp_path / "token"))
    assert Settings.read().upstream_url == ""


def test_a_secret_file_that_is_not_there_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPEECHBRIDGE_API_KEYS_FILE", str(tmp_path / "keys"))
    with pytest.raises(WrongSetting, match=r"SPEECHBRIDGE_API_KEYS_FILE: .*keys cannot be read: FileNotFoundError"):
        Settings.read()


def test_a_recognizer_elsewhere_is_for_when_there_is_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECHBRIDGE_RECOGNIZER_URL", "ws://recognizer:8001")
    assert Settings.read().upstream_url == "ws://recognizer:8001"
    monkeypatch.setenv("REVAI_ACCESS_TOKEN", "S3CRET")
    assert Settings.read().upstream_url == REVAI_CLOUD


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_on_loopback_everybody_may_come_in(host: str) -> None:
    create_app(Settings.read(host=host), stream_client_start=iter)


@pytest.mark.parametrize(
    "where",
    [{"host": "0.0.0.0"}, {"host": "speech.example"}, {"published_on": "192.0.2.1"}],  # noqa: S104 # refused
)
def test_where_others_reach_it_a_key_is_needed(where: dict[str, str]) -> None:
    with pytest.raises(WrongSetting, match=r"SPEECHBRIDGE_HOST: .*`speechbridge key NAME`"):
        create_app(Settings.read(**where), stream_client_start=iter)
    create_app(Settings.read(**where, api_keys=make_key("alice")[1]), stream_client_start=iter)


def test_in_a_container_it_is_the_published_address_that_counts() -> None:
    create_app(Settings.read(host="0.0.0.0", published_on="127.0.0.1"), stream_client_start=iter)  # noqa: S104 # as said
