"""What can be set, from the environment. The only import of pydantic-settings."""

from __future__ import annotations

import difflib
import os
import re
from ipaddress import ip_network
from pathlib import Path  # pydantic reads the annotations
from typing import Annotated, Literal

from pydantic import AfterValidator, AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from speechbridge.logs import Format  # noqa: TC001 # pydantic reads the annotations
from speechbridge.protocol.address import Address, is_loopback

PREFIX = "SPEECHBRIDGE_"
REVAI_CLOUD = "wss://api.rev.ai"


class WrongSetting(Exception):
    """A setting has a value that it cannot have. Its text names the setting and what is allowed."""


def _websocket_url(url: str) -> str:
    if url and not url.startswith(("ws://", "wss://")):
        raise ValueError("it must start with ws:// or wss://")
    if url:
        Address.parse(url)
    return url


def _networks(text: str) -> str:
    for network in split(text):
        ip_network(network)  # raises a ValueError that says what is wrong with it
    return text


def _origins(text: str) -> str:
    for origin in split(text):
        if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+", origin, re.IGNORECASE):
            raise ValueError(f"{origin!r} is no origin: write https://example.org, without a path")
    return text


def split(text: str) -> list[str]:
    """Take a comma-separated list apart."""
    return [part.strip() for part in text.split(",") if part.strip()]


class Settings(BaseSettings):
    """All settings. Each is read from SPEECHBRIDGE_ and its name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, allow_inf_nan=False
    )

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    published_on: str = Field(
        "", description="address on which a container or a proxy publishes this service, if it is not the host"
    )
    api_keys: SecretStr = Field(
        SecretStr(""), description="who may come in: comma-separated lines of `speechbridge key NAME`; none: everybody"
    )
    api_keys_file: Path | None = Field(None, description="a file of more such lines; an empty one has none")
    key: SecretStr = Field(
        SecretStr(""), description="the API key that our own commands (transcribe, mic, send) come in with"
    )
    origins: Annotated[str, AfterValidator(_origins)] = Field(
        "",
        description="origins of pages that may connect, comma-separated, as https://example.org; the page that this"
        " service itself serves may in any case, on loopback or with a key",
    )
    trusted_proxies: Annotated[str, AfterValidator(_networks)] = Field(
        "127.0.0.1,::1", description="addresses and networks of proxies whose X-Forwarded-For is believed"
    )
    sessions_per_key: int = Field(0, ge=0, description="connections at once with one key; 0: no limit")
    sessions_per_address: int = Field(
        50, ge=0, description="connections at once from one address, loopback aside (an IPv6 /64 is one); 0: no limit"
    )
    handshakes_per_minute: int = Field(
        120, ge=0, description="with one key, and from one address, loopback aside; 0: no limit"
    )
    bytes_per_second: int = Field(0, ge=0, description="by one key, and from one address; 0: no limit")
    messages_per_second: int = Field(0, ge=0, description="by one key, and from one address; 0: no limit")
    session_seconds: float = Field(0.0, ge=0, description="how long a stream may last; 0: no limit")
    idle_seconds: float = Field(
        600.0, ge=0, description="how long a connection may last on which nothing comes or goes; 0: no limit"
    )
    max_sessions: int = Field(200, ge=1, le=100_000, description="streams at once; one more is refused with 4029")
    max_message_bytes: int = Field(
        8 * 2**20, ge=2**10, le=2**30, description="largest message of a client; a larger one is refused with 1009"
    )
    revai_access_token: SecretStr = Field(
        SecretStr(""),
        validation_alias=AliasChoices("SPEECHBRIDGE_REVAI_ACCESS_TOKEN", "REVAI_ACCESS_TOKEN"),
        description="use Rev.ai's cloud, with this token; REVAI_ACCESS_TOKEN is read too",
    )
    revai_access_token_file: Path | None = Field(None, description="a file that holds this token; an empty one is none")
    revai_url: Annotated[str, AfterValidator(_websocket_url)] = Field(
        "", description="use this server in place of Rev.ai's cloud, for example ws://recognizer:8001"
    )
    recognizer_url: Annotated[str, AfterValidator(_websocket_url)] = Field(
        "", description="a `python -m speechbridge.recognizer` that runs elsewhere, for when there is no token"
    )
    start: str = Field("", description="package.module:callable, a sync generator to use in place of Rev.ai's SDK")
    connect_seconds: float = Field(5.0, gt=0, le=300, description="how long connecting upstream may take")
    answer_seconds: float = Field(
        30.0, gt=0, le=3600, description="how long to wait for the upstream's last words after the end of the input"
    )
    upstream_lifetime: float = Field(
        10_200.0,
        gt=0,
        description="seconds after which a stream moves to a new upstream connection (Rev.ai ends one at 3 h)",
    )
    upstream_silence: float = Field(
        20.0, gt=0, description="seconds without an answer to speech after which an upstream connection is replaced"
    )
    replay_pace: float = Field(
        0.0, ge=0, description="multiple of real time at which a new connection is given audio again; 0: at once"
    )
    drain_seconds: float = Field(
        10.0,
        ge=0,
        le=600,
        description="how long running streams may finish at SIGTERM (Ctrl-C: 3 s at most), and after their client left",
    )
    resume_seconds: float = Field(60.0, ge=0, le=3600, description="how long a client with resume=true may be away")
    recognizer_processes: int = Field(0, ge=0, le=1024, description="decoding processes; 0 means one a core")
    recognizer_streams: int = Field(4, ge=1, le=64, description="streams that each decoding process serves at once")
    relay_url: Annotated[str, AfterValidator(_websocket_url)] = Field(
        "", description="the other side of /relay, ws:// or wss://"
    )
    proxy_url: Annotated[str, AfterValidator(_websocket_url)] = Field(
        "", description="where the proxy flow of /ws asks, ws:// or wss://"
    )
    proxy_seconds: float = Field(10.0, gt=0, le=300, description="how long the proxy flow waits for an answer")
    files_dir: Path = Field(Path("files"), description="where the file flow of /ws stores what it receives")
    max_file_bytes: int = Field(2**30, ge=0, description="largest file that the file flow takes")
    processors: str = Field("", description="package.module:callable,...: what each response passes through")
    processor_seconds: float = Field(1.0, gt=0, le=60, description="how long a processor may take for a response")
    keywords: str = Field(
        "", description="word,some words,...: what speechbridge.server.processors.keywords:Alerts looks for"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="how much is logged")
    log_format: Format = Field("auto", description="text or json; auto is text on a terminal, json elsewhere")

    @property
    def upstream_url(self) -> str:
        """The server that the SDK talks to; empty for the embedded recognizer."""
        if self.revai_url:
            return self.revai_url.rstrip("/")
        return REVAI_CLOUD if self.revai_access_token.get_secret_value() else self.recognizer_url.rstrip("/")

    @property
    def is_private(self) -> bool:
        """Whether only this machine reaches the service."""
        return is_loopback(self.published_on or self.host)

    @classmethod
    def read(cls, **overrides: object) -> Settings:
        """Read the environment; what is given here and is not None comes before it. Raises WrongSetting."""
        try:
            settings = cls(**{name: value for name, value in overrides.items() if value is not None})  # type: ignore[arg-type] # checked there
        except ValidationError as error:
            wrong = error.errors(include_input=False, include_url=False)[0]
            name = str(wrong["loc"][0])
            name = name if name.isupper() else PREFIX + name.upper()
            raise WrongSetting(f"{name}: {wrong['msg'].removeprefix('Value error, ')}") from None
        found = {}
        if token := _content("REVAI_ACCESS_TOKEN_FILE", settings.revai_access_token_file).strip():
            found["revai_access_token"] = SecretStr(token)
        lines = _content("API_KEYS_FILE", settings.api_keys_file).splitlines()
        if keys := [line for line in lines if not line.startswith("#")]:
            found["api_keys"] = SecretStr(",".join([*keys, settings.api_keys.get_secret_value()]))
        return settings.model_copy(update=found)

    def for_this_machine(self) -> Settings:
        """Return these settings for a service that only this machine reaches: on a free port, without keys."""
        return self.model_copy(
            update={"host": "127.0.0.1", "port": 0, "published_on": "", "api_keys": SecretStr("")},
        )


def _content(name: str, path: Path | None) -> str:
    try:
        return path.read_text() if path else ""
    except (OSError, UnicodeDecodeError) as error:
        raise WrongSetting(f"{PREFIX}{name}: {path} cannot be read: {type(error).__name__}") from None


def misspelled() -> list[tuple[str, str]]:
    """Name what looks like a setting in the environment and is none, each with the setting that it may be meant for."""
    names = [name for name, _, _ in describe()]
    strangers = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in names)
    return [(name, close) for name in strangers for close in difflib.get_close_matches(name, names, 1, 0.9)]


def describe() -> list[tuple[str, str, str]]:
    """List every setting: its variable, its default, what it is."""
    return [
        (PREFIX + name.upper(), "" if field.default is None else str(field.default), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
