"""The settings, in one group for each part of the program.

A group is a frozen model that does not read the environment: tests make one with the values that they need. Groups that
have a setting in common inherit it from the same base class.
"""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, PrivateAttr, SecretStr

from speechbridge.logs import Format  # noqa: TC001 # pydantic reads the annotations
from speechbridge.protocol.address import Address, is_loopback

if TYPE_CHECKING:
    from collections.abc import Sequence

REVAI_CLOUD = "wss://api.rev.ai"
REVAI_LANGUAGES = ("en", "fr", "de", "it", "ja", "ko", "cmn", "pt", "es")  # for streaming; the first is the default
ENGINES = ("auto", "embedded", "revai", "google", "riva")


def split(text: str) -> list[str]:
    """Split a comma-separated list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _websocket_url(url: str) -> str:
    if url and not url.startswith(("ws://", "wss://")):
        raise ValueError("it must start with ws:// or wss://")
    if url:
        Address.parse(url)
    return url


def _networks(text: str) -> str:
    for network in split(text):
        try:
            ip_network(network)
        except ValueError:
            raise ValueError(f"{network!r} is not an address or a network: write 192.0.2.1 or 10.0.0.0/8") from None
    return text


def _origins(text: str) -> str:
    for origin in split(text):
        if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+", origin, re.IGNORECASE):
            raise ValueError(f"{origin!r} is not an origin: write https://example.org, without a path")
    return text


def _engine(name: str) -> str:
    if name not in ENGINES and ":" not in name:
        raise ValueError(f"{name!r} is not one of {', '.join(ENGINES)} or package.module:factory")
    return name


def _fallback(name: str) -> str:
    if name == "auto":
        raise ValueError("name the engine: auto would select the same one as SPEECHBRIDGE_ENGINE")
    return name and _engine(name)


def _http_url(url: str) -> str:
    if url and not re.fullmatch(r"https?://[^/?#@\s]+/?", url):
        raise ValueError("write http://host:port, or https://host")
    return url.rstrip("/")


HttpUrl = Annotated[str, AfterValidator(_http_url)]
WebSocketUrl = Annotated[str, AfterValidator(_websocket_url)]


class Group(BaseModel):
    """Settings of one part of the program."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


# ---- settings that several groups share ------------------------------------------------------------------------------


class ReachSettings(Group):
    """Who can reach the service."""

    host: str = Field("127.0.0.1", description="address to listen on")
    published_on: str = Field(
        "",
        description="address on which a container engine or a proxy publishes this service, if it is not"
        " SPEECHBRIDGE_HOST",
    )

    @property
    def is_private(self) -> bool:
        """Whether only this machine reaches the service."""
        return is_loopback(self.published_on or self.host)


class MessageSettings(Group):
    """How large a message may be."""

    max_message_bytes: int = Field(
        2**19,
        ge=2**10,
        le=2**30,
        description="largest message that a client may send; a larger one closes its connection with 1009",
    )


class CapacitySettings(Group):
    """How many streams and connections the service accepts in total."""

    max_sessions: int = Field(
        200,
        ge=1,
        le=100_000,
        description="streams at once, with Redis over all replicas; one more is refused with 4029",
    )
    max_connections: int = Field(
        0,
        ge=0,
        description="connections at once, over all endpoints, keys and addresses; one more is refused with 4029; 0:"
        " twice SPEECHBRIDGE_MAX_SESSIONS",
    )

    @property
    def most_connections(self) -> int:
        """The limit of connections at once."""
        return self.max_connections or 2 * self.max_sessions


class ConnectSettings(Group):
    """How long connecting may take."""

    connect_seconds: float = Field(
        5.0, gt=0, le=300, description="timeout for connecting to the speech service, and to the server of /relay"
    )


class FilesSettings(Group):
    """Where files are stored."""

    files_dir: Path = Field(Path("files"), description="directory in which the file flow of /ws stores files")


# ---- the groups ------------------------------------------------------------------------------------------------------


class ListenSettings(ReachSettings, MessageSettings):
    """Where the server listens, and what it accepts from a connection."""

    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 picks a free one")
    trusted_proxies: Annotated[str, AfterValidator(_networks)] = Field(
        "127.0.0.1,::1", description="addresses and networks of the proxies whose X-Forwarded-For header is trusted"
    )


class LimitSettings(Group):
    """How much each key and each client address may use."""

    sessions_per_key: int = Field(0, ge=0, description="connections at once per key; 0: no limit")
    sessions_per_address: int = Field(
        50,
        ge=0,
        description="connections at once per client address (loopback exempt, an IPv6 /64 counts as one); 0: no limit",
    )
    handshakes_per_minute: int = Field(
        120, ge=0, description="handshakes per minute, per key and per client address (loopback exempt); 0: no limit"
    )
    bytes_per_second: int = Field(
        0, ge=0, description="bytes received per second, per key and per client address (loopback exempt); 0: no limit"
    )
    messages_per_second: int = Field(
        0,
        ge=0,
        description="messages received per second, per key and per client address (loopback exempt), fragments, pings"
        " and pongs included; 0: no limit",
    )


class AccessSettings(ReachSettings, CapacitySettings, LimitSettings):
    """Who may connect, and for how long without traffic."""

    api_keys: SecretStr = Field(
        SecretStr(""),
        description="API keys that may connect: comma-separated lines that `speechbridge key NAME` prints; empty: no"
        " key is needed",
    )
    api_keys_file: Path | None = Field(None, description="file with more such lines; an empty file adds no key")
    origins: Annotated[str, AfterValidator(_origins)] = Field(
        "",
        description="origins of web pages that may connect, comma-separated, for example https://example.org; this"
        " service's own page always may, on loopback or with a key",
    )
    idle_seconds: float = Field(
        600.0, ge=0, description="how long a connection may stay open without traffic; 0: no limit"
    )
    _lines_in_file: tuple[int, ...] = PrivateAttr(())

    def with_keys_of_file(self, keys: Sequence[tuple[int, str]]) -> Self:
        """Return a copy with the keys of the file, each given with its line number, before those of the setting."""
        copy = self.model_copy(
            update={"api_keys": SecretStr(",".join([*(key for _, key in keys), self.api_keys.get_secret_value()]))}
        )
        copy._lines_in_file = tuple(number for number, _ in keys)  # noqa: SLF001 # our own class
        return copy

    def place_of_key(self, index: int) -> str:
        """Return where a key was set, as text: the setting and the line. The first key has the index 0."""
        if index < len(self._lines_in_file):
            return f"SPEECHBRIDGE_API_KEYS_FILE: line {self._lines_in_file[index]} of {self.api_keys_file}"
        return f"SPEECHBRIDGE_API_KEYS: line {index - len(self._lines_in_file) + 1}"


class SessionSettings(CapacitySettings):
    """How many streams there may be, and how long each may last."""

    session_seconds: float = Field(0.0, ge=0, description="longest duration of a stream; 0: no limit")
    drain_seconds: float = Field(
        10.0,
        ge=0,
        le=600,
        description="how long a stream may take to finish after SIGTERM (after Ctrl-C at most 3 s), and after its"
        " client has left",
    )
    resume_seconds: float = Field(
        60.0,
        ge=0,
        le=3600,
        description="how long a client that connected with resume=true may take to reconnect",
    )


class LogSettings(Group):
    """What is logged, and how."""

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level that is logged")
    log_format: Format = Field("auto", description="text or json; auto: text on a terminal, json elsewhere")


class UpstreamSettings(ConnectSettings, LogSettings):
    """Which speech service is used, and how its connections are managed."""

    engine: Annotated[str, AfterValidator(_engine)] = Field(
        "auto",
        description="speech service: embedded, revai, google, riva, or package.module:factory, which makes one; auto:"
        " the first that is set of SPEECHBRIDGE_START, Rev.ai's token or address, and SPEECHBRIDGE_RECOGNIZER_URL, else"
        " embedded",
    )
    fallback: Annotated[str, AfterValidator(_fallback)] = Field(
        "",
        description="speech service that takes over all streams while that of SPEECHBRIDGE_ENGINE fails for all of"
        " them, for example embedded; empty: none",
    )
    revai_access_token: SecretStr = Field(
        SecretStr(""),
        validation_alias=AliasChoices("SPEECHBRIDGE_REVAI_ACCESS_TOKEN", "REVAI_ACCESS_TOKEN"),
        description="access token for Rev.ai's cloud, which is used if this is set; REVAI_ACCESS_TOKEN is read, too",
    )
    revai_access_token_file: Path | None = Field(None, description="file with this token; an empty file counts as none")
    revai_url: WebSocketUrl = Field(
        "", description="server to use instead of Rev.ai's cloud, for example ws://recognizer:8001"
    )
    recognizer_url: WebSocketUrl = Field(
        "",
        description="address of a `python -m speechbridge.recognizer` that runs elsewhere; used if there is no Rev.ai"
        " token",
    )
    start: str = Field(
        "", description="package.module:callable, a sync generator to use instead of Rev.ai's SDK; see docs/engines.md"
    )
    google_version: Literal["v1", "v2"] = Field("v2", description="version of Google Cloud Speech")
    google_project: str = Field("", description="Google Cloud project; empty: that of the credentials")
    google_location: str = Field(
        "global", pattern=r"^[a-z0-9-]+$", description="location of Google's recognizer, for example global or eu"
    )
    google_model: str = Field("", description="Google's model; empty: for v2 long, for v1 Google's own default")
    google_endpoint: HttpUrl = Field(
        "", description="server to use instead of Google's: http://host:port is plain text, for emulators"
    )
    riva_url: HttpUrl = Field("", description="NVIDIA Riva server, for example http://riva:50051 or https://host")
    riva_model: str = Field("", description="Riva's model; empty: the server's default for the language")
    riva_key: SecretStr = Field(SecretStr(""), description="API key for Riva, which is sent in a header")
    riva_function: str = Field("", description="id of the function, for Riva in NVIDIA's cloud")
    answer_seconds: float = Field(
        30.0, gt=0, le=3600, description="how long to wait for the last results after the end of the input"
    )
    upstream_lifetime: float = Field(
        10_200.0,
        gt=0,
        description="seconds after which a stream moves to a new upstream connection (Rev.ai closes one after 3 h), or"
        " before, if the engine's own limit is shorter",
    )
    upstream_silence: float = Field(
        20.0, gt=0, description="seconds without an answer to speech after which an upstream connection is replaced"
    )
    replay_pace: float = Field(
        0.0,
        ge=0,
        description="speed at which audio is replayed to a new upstream connection, as a multiple of real time; 0: no"
        " limit",
    )
    stream_bytes: int = Field(
        3 * 2**20,
        ge=2**16,
        le=2**30,
        description="size of a stream's replay buffer, in bytes of audio; it is replayed if an upstream connection"
        " breaks; a minute of 16 kHz mono takes 1920000",
    )
    model: Path | None = Field(
        None, description="folder of another speech model for the embedded recognizer; see docs/recognizer.md"
    )
    language: str = Field(
        "en",
        pattern=r"^[a-zA-Z]{2,3}(-\w+)*$",
        description="language of SPEECHBRIDGE_MODEL, and at Google and Riva of streams that name none; for example en,"
        " de or es",
    )
    languages: str = Field(
        "",
        pattern=r"^\s*([a-zA-Z]{2,3}(-\w+)*\s*(,\s*|$))*$",
        description="languages that the page offers, comma-separated, the default first, for example en,es; empty: with"
        " Rev.ai's token its nine languages, else none",
    )
    recognizer_threads: int = Field(
        0, ge=0, le=1024, description="decoding threads of the embedded recognizer; 0: one per core"
    )
    recognizer_streams: int = Field(
        0, ge=0, le=100_000, description="streams at once in the embedded recognizer; 0: eight per thread"
    )

    @property
    def upstream_url(self) -> str:
        """The server that the SDK talks to; empty for the embedded recognizer."""
        if self.revai_url:
            return self.revai_url.rstrip("/")
        return REVAI_CLOUD if self.revai_access_token.get_secret_value() else self.recognizer_url.rstrip("/")

    @property
    def offered_languages(self) -> tuple[str, ...]:
        """The languages that a stream may select, the default first; empty if there is no choice."""
        if self.languages or self.start or self.upstream_url != REVAI_CLOUD:
            return tuple(split(self.languages))
        return REVAI_LANGUAGES

    @property
    def upstream_kind(self) -> Literal["revai", "recognizer"]:
        """The kind of that server: "revai" (or a replacement of it), or "recognizer", our own one elsewhere."""
        return "revai" if self.revai_url or self.revai_access_token.get_secret_value() else "recognizer"


class RelaySettings(ConnectSettings, MessageSettings):
    """Which server /relay connects to."""

    relay_url: WebSocketUrl = Field("", description="server that /relay connects to, ws:// or wss://")


class FlowSettings(MessageSettings, FilesSettings):
    """Settings of the flows of /ws."""

    proxy_url: WebSocketUrl = Field("", description="server that the proxy flow of /ws asks, ws:// or wss://")
    proxy_seconds: float = Field(10.0, gt=0, le=300, description="how long the proxy flow waits for an answer")
    max_file_bytes: int = Field(2**30, ge=0, description="largest file that the file flow accepts")


class TranscriptionSettings(FilesSettings):
    """Settings of the transcription of whole files."""

    max_upload_bytes: int = Field(
        25 * 2**20,
        ge=2**10,
        le=2**40,
        description="largest file that /v1/audio/transcriptions accepts; a larger one is refused with 413",
    )


class ProcessorSettings(Group):
    """The processors that responses pass through."""

    processors: str = Field(
        "", description="package.module:callable,...: functions that each response passes through, in this order"
    )
    processor_seconds: float = Field(1.0, gt=0, le=60, description="how long a processor may take per response")
    keywords: str = Field(
        "",
        description="words and phrases that speechbridge.server.processors.keywords:Alerts looks for, comma-separated",
    )


class ClientSettings(Group):
    """Settings of the client commands."""

    key: SecretStr = Field(SecretStr(""), description="API key that the commands transcribe, mic, send and doctor use")
