"""Settings: read from the environment, refused with the name and what is allowed."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from speechbridge.server import create_app
from speechbridge.server.admission import make_key
from speechbridge.settings import (
    GROUPS,
    REVAI_CLOUD,
    LimitSettings,
    Settings,
    WrongSetting,
    describe,
    environment_warnings,
    split,
)
from tests.helpers.secrets import secret

if TYPE_CHECKING:
    from pathlib import Path


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
        ("PORT", "65536", "'65536' is not a whole number from 0 to 65535"),
        ("PORT", "http", "'http' is not a whole number from 0 to 65535"),
        ("PORT", "1.5", "'1.5' is not a whole number from 0 to 65535"),
        ("MAX_SESSIONS", "0", "'0' is not a whole number from 1 to 100000"),
        ("MAX_FILE_BYTES", "-1", "'-1' is not a whole number of at least 0"),
        ("MAX_SESSIONS", "9" * 50, f"'{'9' * 40}...' is not a whole number from 1 to 100000"),
        ("SESSION_SECONDS", "inf", "'inf' is not a number of at least 0"),
        ("UPSTREAM_LIFETIME", "0", "'0' is not a number above 0"),
        ("PROXY_SECONDS", "301", "'301' is not a number above 0 and at most 300"),
        ("LOG_LEVEL", "loud", "'loud' is not one of debug, info, warning, error"),
        ("REVAI_URL", "http://x", "it must start with ws:// or wss://"),
        ("RELAY_URL", "ws://", "the URL is not usable: write ws://host:port or wss://host"),
        ("PROXY_URL", "ws://x:99999", "the URL is not usable: write ws://host:port or wss://host"),
        (
            "TRUSTED_PROXIES",
            "10.0.0.0/8, caddy",
            "'caddy' is not an address or a network: write 192.0.2.1 or 10.0.0.0/8",
        ),
        (
            "ORIGINS",
            "https://ok.example, example.org",
            "'example.org' is not an origin: write https://example.org, without a path",
        ),
        (
            "ORIGINS",
            "https://ok.example/",
            "'https://ok.example/' is not an origin: write https://example.org, without a path",
        ),
        ("GOOGLE_VERSION", "v3", "'v3' is not one of v1, v2"),
        ("GOOGLE_ENDPOINT", "speech.googleapis.com", "write http://host:port, or https://host"),
        ("RIVA_URL", "riva:50051", "write http://host:port, or https://host"),
    ],
)
def test_a_wrong_value_is_refused_by_name(
    variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"SPEECHBRIDGE_{variable}", value)
    with pytest.raises(WrongSetting) as refused:
        Settings.read()
    assert str(refused.value) == f"SPEECHBRIDGE_{variable}: {said}"


def test_whatever_is_wrong_with_a_number_is_said_in_our_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = [
        name for group in GROUPS for name, field in group.model_fields.items() if field.annotation in (int, float)
    ]
    assert len(numbers) > 15
    for name in numbers:
        for value in ("x", "-1e999", "1" * 5000, "\u0661 2"):
            with monkeypatch.context() as environment:
                environment.setenv(f"SPEECHBRIDGE_{name.upper()}", value)
                with pytest.raises(WrongSetting, match=r"is not a (whole )?number (of at least|from|above) "):
                    Settings.read()


def test_all_that_is_wrong_is_told_and_the_rest_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPEECHBRIDGE_PORT", "70000")
    monkeypatch.setenv("SPEECHBRIDGE_IDLE_SECONDS", "soon")
    monkeypatch.setenv("SPEECHBRIDGE_MAX_SESSIONS", "7")
    monkeypatch.setenv("SPEECHBRIDGE_API_KEYS_FILE", str(tmp_path / "keys"))
    settings, troubles = Settings.examine()
    assert (settings.port, settings.idle_seconds, settings.max_sessions) == (8000, 600.0, 7)
    assert [trouble.partition(":")[0] for trouble in sorted(troubles)] == [
        "SPEECHBRIDGE_API_KEYS_FILE",
        "SPEECHBRIDGE_IDLE_SECONDS",
        "SPEECHBRIDGE_PORT",
    ]


def test_a_value_that_is_no_text_is_named_and_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPEECHBRIDGE_PORT", "SPEECHBRIDGE_LOG_LEVEL", "SPEECHBRIDGE_LANGUAGE"):
        with monkeypatch.context() as environment:
            environment.setenv(name, f"{secret()}\udcff")
            with pytest.raises(WrongSetting) as refused:
                Settings.read()
            assert str(refused.value) == f"{name}: it is not UTF-8: write it in UTF-8"


def test_a_wrong_line_in_the_key_file_is_told_by_its_number_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text(f"# who may come in\n\n{make_key('alice')[1]}\n{secret()}\n")
    monkeypatch.setenv("SPEECHBRIDGE_API_KEYS_FILE", str(tmp_path / "keys"))
    with pytest.raises(WrongSetting) as refused:
        create_app(Settings.read(), stream_client_start=iter)
    form = "is not of the form NAME:SHA256, as `speechbridge key NAME` prints it"
    assert str(refused.value) == f"SPEECHBRIDGE_API_KEYS_FILE: line 4 of {tmp_path / 'keys'} {form}"
    (tmp_path / "keys").write_text(make_key("alice")[1])
    monkeypatch.setenv("SPEECHBRIDGE_API_KEYS", f"{make_key('bob')[1]},{secret()}")
    with pytest.raises(WrongSetting) as refused:
        create_app(Settings.read(), stream_client_start=iter)
    assert str(refused.value) == f"SPEECHBRIDGE_API_KEYS: line 2 {form}"


@pytest.mark.slow
def test_pydantic_s_own_words_are_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is set: the error, if there is one, names the setting and says in our words what is allowed."""
    values = ("x", "-1", "1e400", "nan", "true", "[]", '"8000"', "8_000", "\udcff", "a\nb", " ", "ws://[", "//", "::")
    refusals = 0
    for name, _, _ in describe():
        for value in values:
            with monkeypatch.context() as environment:
                environment.setenv(name, value)
                refused = refusal()
            if refused:
                refusals += 1
                assert refused.startswith(f"{name}: ")
                assert not re.search(r"[Ii]nput|pydantic|valid |type=|should|parse|Error", refused)
    assert refusals > 300


def refusal() -> str:
    """Return why the environment is refused; empty if it is not."""
    try:
        Settings.read()
    except WrongSetting as error:
        return str(error)
    return ""


def test_a_misspelled_setting_is_named_with_what_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECHBRIDGE_MAX_SESION", "3")
    monkeypatch.setenv("SPEECHBRIDGE_PORT_8000_TCP_ADDR", "10.0.0.1")  # Kubernetes' doing, for a service of our name
    monkeypatch.setenv("SPEECHBRIDGE_RECOGNIZER_PORT", "tcp://10.0.0.2:8001")  # and of a name that is like a setting's
    monkeypatch.setenv("SPEECHBRIDGE_PORT", "9000")
    assert environment_warnings() == ["SPEECHBRIDGE_MAX_SESION is not a setting: is SPEECHBRIDGE_MAX_SESSIONS meant?"]


def test_addresses_that_kubernetes_sets_are_ignored_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service named speechbridge has SPEECHBRIDGE_PORT set to its own address in every pod of its namespace."""
    monkeypatch.setenv("SPEECHBRIDGE_PORT", "tcp://10.96.12.7:8000")
    monkeypatch.setenv("SPEECHBRIDGE_PORT_8000_TCP", "tcp://10.96.12.7:8000")
    monkeypatch.setenv("SPEECHBRIDGE_IDLE_SECONDS", "udp://10.96.12.7:53")
    monkeypatch.setenv("SPEECHBRIDGE_RELAY_URL", "ws://example.org")  # no number belongs here
    settings = Settings.read()
    assert (settings.port, settings.idle_seconds, settings.relay_url) == (8000, 600.0, "ws://example.org")
    [warning] = environment_warnings()
    assert warning.startswith("ignored, because the value is an address, not a number")
    assert warning.endswith(": SPEECHBRIDGE_IDLE_SECONDS, SPEECHBRIDGE_PORT")


def test_a_group_knows_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECHBRIDGE_SESSIONS_PER_KEY", "3")
    assert LimitSettings.model_validate({}).sessions_per_key == 0
    assert Settings.read().sessions_per_key == 3


def test_every_setting_is_in_a_group() -> None:
    grouped = {name for group in GROUPS for name in group.model_fields}
    assert grouped == set(Settings.model_fields)


def test_every_setting_says_what_it_is() -> None:
    assert all(name.startswith("SPEECHBRIDGE_") and what for name, _, what in describe())


def test_secrets_come_from_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("S3CRET\n")
    (tmp_path / "keys").write_text("\ufeff# who may come in\nalice:1\nbob:2\n")  # as some editors begin a file
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
    with pytest.raises(WrongSetting, match=r"SPEECHBRIDGE_API_KEYS_FILE: .*keys cannot be read \(No such file or"):
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
    (name,) = where
    with pytest.raises(WrongSetting, match=rf"^SPEECHBRIDGE_{name.upper()}: .*`speechbridge key NAME`"):
        create_app(Settings.read(**where), stream_client_start=iter)
    create_app(Settings.read(**where, api_keys=make_key("alice")[1]), stream_client_start=iter)


def test_in_a_container_it_is_the_published_address_that_counts() -> None:
    create_app(Settings.read(host="0.0.0.0", published_on="127.0.0.1"), stream_client_start=iter)  # noqa: S104 # as said
