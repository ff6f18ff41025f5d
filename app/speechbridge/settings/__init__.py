"""The settings, read from the environment. pydantic-settings is imported here only.

`Settings` reads all SPEECHBRIDGE_ variables, and is a subclass of every group. Each part of the program takes it as the
type of its own group, and so sees no other settings.
"""

from __future__ import annotations

import difflib
import os
import re
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from pydantic import SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from speechbridge.settings.cluster import ClusterSettings
from speechbridge.settings.groups import (
    REVAI_CLOUD,
    AccessSettings,
    ClientSettings,
    FlowSettings,
    Group,
    LimitSettings,
    ListenSettings,
    LogSettings,
    ProcessorSettings,
    RelaySettings,
    SessionSettings,
    TranscriptionSettings,
    UpstreamSettings,
    split,
)
from speechbridge.settings.workers import WorkerSettings

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

__all__ = [
    "GROUPS",
    "REVAI_CLOUD",
    "AccessSettings",
    "ClientSettings",
    "ClusterSettings",
    "FlowSettings",
    "LimitSettings",
    "ListenSettings",
    "LogSettings",
    "ProcessorSettings",
    "RelaySettings",
    "SessionSettings",
    "Settings",
    "TranscriptionSettings",
    "UpstreamSettings",
    "WorkerSettings",
    "WrongSetting",
    "describe",
    "environment_warnings",
    "split",
]

PREFIX = "SPEECHBRIDGE_"
SHOWN = 40  # characters of a wrong value that an error shows


class WrongSetting(Exception):
    """A setting has a value that is not allowed. The text names the setting, and says what is allowed."""


GROUPS: tuple[type[Group], ...] = (
    ListenSettings,
    AccessSettings,
    SessionSettings,
    ClusterSettings,
    UpstreamSettings,
    RelaySettings,
    FlowSettings,
    TranscriptionSettings,
    ProcessorSettings,
    LogSettings,
    WorkerSettings,
    ClientSettings,
)


class Settings(
    ListenSettings,
    AccessSettings,
    SessionSettings,
    ClusterSettings,
    UpstreamSettings,
    RelaySettings,
    FlowSettings,
    TranscriptionSettings,
    ProcessorSettings,
    WorkerSettings,
    ClientSettings,
    BaseSettings,
):
    """All settings. Each is read from the variable SPEECHBRIDGE_NAME, its name in capitals."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="ignore")

    @classmethod
    def read(cls, **overrides: object) -> Settings:
        """Read the environment. An override that is not None takes precedence. Raises WrongSetting."""
        try:
            settings = cls(**{name: value for name, value in overrides.items() if value is not None})  # type: ignore[arg-type] # checked there
        except ValidationError as error:
            raise WrongSetting(_explained(error.errors(include_url=False)[0])) from None
        return _with_keys(_with_token(settings))

    @classmethod
    def examine(cls) -> tuple[Settings, list[str]]:
        """Read the environment, and replace wrong settings by their defaults.

        Returns the settings, and a sentence about each wrong one.
        """
        problems: list[str] = []
        defaults: dict[str, Any] = {}
        try:
            settings = cls(**defaults)
        except ValidationError as error:
            for wrong in error.errors(include_url=False):
                problems.append(_explained(wrong))
                place = str(wrong["loc"][0])
                defaults[place] = _field(place).default
            settings = cls(**defaults)
        for read_file in (_with_token, _with_keys):
            try:
                settings = read_file(settings)
            except WrongSetting as error:
                problems.append(str(error))
        return settings, problems

    @model_validator(mode="before")
    @classmethod
    def _without_addresses(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if not _is_misplaced_address(name, value)}

    def for_this_machine(self) -> Settings:
        """Return these settings for a service that only this machine can reach: on a free port, without API keys."""
        return self.model_copy(
            update={"host": "127.0.0.1", "port": 0, "published_on": "", "api_keys": SecretStr("")},
        )


# ---- descriptions and errors -----------------------------------------------------------------------------------------


def describe() -> list[tuple[str, str, str]]:
    """List every setting: its variable, its default, its description."""
    fields = {name: field for group in GROUPS for name, field in group.model_fields.items()}
    return [
        (PREFIX + name.upper(), "" if field.default is None else str(field.default), field.description or "")
        for name, field in fields.items()
    ]


def environment_warnings() -> list[str]:
    """Return a warning for each suspicious variable in the environment, for the log when the service starts."""
    names = [name for name, _, _ in describe()]
    ours = {name: value for name, value in sorted(os.environ.items()) if name.startswith(PREFIX)}
    addresses = [
        name for name, value in ours.items() if _is_misplaced_address(name.removeprefix(PREFIX).lower(), value)
    ]
    warnings = [
        f"{name} is not a setting: is {meant} meant?"
        for name, value in ours.items()
        if name not in names and not re.match(r"(tcp|udp|sctp)://", value)  # set by Kubernetes, for another service
        for meant in difflib.get_close_matches(name, names, 1, 0.9)
    ]
    if addresses:
        why = "the value is an address, not a number (Kubernetes sets such variables for a service of this name)"
        warnings.append(f"ignored, because {why}: {', '.join(addresses)}")
    return warnings


def _is_misplaced_address(name: str, value: object) -> bool:
    """Tell whether the value of a numeric setting is an address, such as tcp://10.96.12.7:8000."""
    field = Settings.model_fields.get(name)
    is_number = field is not None and field.annotation in (int, float)
    return is_number and isinstance(value, str) and re.match(r"[a-z][a-z0-9+.-]*://", value) is not None


def _explained(wrong: ErrorDetails) -> str:
    """Turn an error of pydantic into a sentence that names the setting and says what is allowed."""
    place = str(wrong["loc"][0])
    name = place if place.isupper() else PREFIX + place.upper()
    if wrong["type"] == "value_error":  # raised by a validator of ours, in `groups`
        return f"{name}: {wrong['msg'].removeprefix('Value error, ')}"
    field = _field(place)
    if wrong["type"] == "string_unicode":
        return f"{name}: it is not UTF-8: write it in UTF-8"
    shown = str(wrong["input"])
    shown = shown if len(shown) <= SHOWN else shown[:SHOWN] + "..."
    allowed = _allowed(field)
    return f"{name}: {shown!r} is not {allowed}" if allowed else f"{name}: {shown!r} is not a {field.description}"


def _field(place: str) -> FieldInfo:
    """Return the setting at pydantic's location of an error, which is the setting's name or one of its variables."""
    if place in Settings.model_fields:
        return Settings.model_fields[place]
    return Settings.model_fields[place.removeprefix(PREFIX).lower()]


def _allowed(field: FieldInfo) -> str:
    """Return which values a setting may have, as text; "" if only its description says that."""
    if get_origin(field.annotation) is Literal:
        return f"one of {', '.join(get_args(field.annotation))}"
    if field.annotation not in (int, float):
        return ""
    what = "a whole number" if field.annotation is int else "a number"
    bounds = {
        name: getattr(rule, name) for rule in field.metadata for name in ("ge", "gt", "le") if hasattr(rule, name)
    }
    if {"ge", "le"} <= bounds.keys():
        return f"{what} from {bounds['ge']} to {bounds['le']}"
    least = f" of at least {bounds['ge']}" if "ge" in bounds else f" above {bounds['gt']}" if "gt" in bounds else ""
    most = f" and at most {bounds['le']}" if "le" in bounds else ""
    return what + least + most


def _with_token(settings: Settings) -> Settings:
    token = _content("REVAI_ACCESS_TOKEN_FILE", settings.revai_access_token_file).strip()
    return settings.model_copy(update={"revai_access_token": SecretStr(token)}) if token else settings


def _with_keys(settings: Settings) -> Settings:
    lines = enumerate(_content("API_KEYS_FILE", settings.api_keys_file).splitlines(), 1)
    keys = [(number, key) for number, line in lines if not line.startswith("#") for key in split(line)]
    return settings.with_keys_of_file(keys) if keys else settings


def _content(name: str, path: Path | None) -> str:
    try:
        return path.read_text(encoding="utf-8-sig") if path else ""
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise WrongSetting(
            f"{PREFIX}{name}: {path} cannot be read ({why}): name a file that this user can read"
        ) from None
