"""Settings of what the processes of one service share."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from speechbridge.settings.groups import Group


def _redis_url(url: SecretStr) -> SecretStr:
    if not re.match(r"(rediss?://|unix:///|$)", url.get_secret_value()):
        raise ValueError("write redis://:password@host:6379/0, rediss:// for TLS, or unix:///path")
    return url


class ClusterSettings(Group):
    """What the processes of one service share."""

    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)] = Field(
        SecretStr(""),
        description="Redis (7 or newer) or Valkey that all processes of the service share: redis://:password@host:6379/0,"
        " rediss:// for TLS, or unix:///path; empty: this process shares nothing",
    )
    redis_prefix: str = Field(
        "speechbridge",
        pattern=r"^[\w.-]{1,64}$",
        description="prefix of all keys in Redis; services that use the same Redis need different ones",
    )
    account_streams: int = Field(
        0,
        ge=0,
        le=100_000,
        description="streams at once of the account at the speech service, over all processes (Rev.ai: 10 at first);"
        " one more is refused with 4029, or waits in the queue; 0: no limit",
    )
    readers: int = Field(
        1000, ge=0, le=100_000, description="readers at once of one shared transcript, over all processes"
    )
    share_seconds: float = Field(
        3600.0, gt=0, le=86_400, description="how long a shared transcript can be read after its stream has ended"
    )
    queue_seconds: float = Field(
        300.0, gt=0, le=86_400, description="how long a client that connected with queue=true may wait in the queue"
    )
