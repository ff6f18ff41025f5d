"""What a process shares is chosen by the settings; what it does not share costs it nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from speechbridge.cluster.joined import join
from speechbridge.cluster.memory import MemoryLeases
from speechbridge.server import create_app
from speechbridge.server.run import Server, ServiceFailed
from speechbridge.settings import ClusterSettings, Settings, WrongSetting
from tests.helpers.command import environment

SCRIPT = """
import sys
from speechbridge.server import create_app
create_app(stream_client_start=iter)
print(sorted(name for name in sys.modules if name.split(".")[0] in ("redis", "segno")))
"""


def test_without_redis_nothing_of_it_is_imported() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment(), capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout == "[]\n"


def test_without_a_limit_nothing_is_counted() -> None:
    assert join(ClusterSettings.model_validate({}), 60.0).leases is None


def test_without_redis_a_process_counts_for_itself_and_its_leases_never_expire() -> None:
    leases = join(ClusterSettings.model_validate({"account_streams": 10}), 60.0).leases
    assert isinstance(leases, MemoryLeases)
    assert (leases.terms.leases, leases.terms.lease_seconds) == (10, float("inf"))


@pytest.mark.parametrize("url", ["http://:S3CRET@host", "redis://:S3CRET@host:port"])
def test_a_url_of_no_use_is_one_line_without_the_password(url: str) -> None:
    with pytest.raises(WrongSetting, match=r"^SPEECHBRIDGE_REDIS_URL: write redis://") as refused:
        join(Settings.read(redis_url=url), 60.0)
    assert "S3CRET" not in str(refused.value)


async def test_a_redis_that_cannot_be_reached_is_one_line_when_the_service_starts() -> None:
    settings = Settings.read(port=0, redis_url="redis://:S3CRET@127.0.0.1:1/0")
    with pytest.raises(ServiceFailed) as failed:
        await Server(create_app(settings, stream_client_start=iter), settings, takes_signals=False).serve()
    assert str(failed.value) == (
        "SPEECHBRIDGE_REDIS_URL: Redis at 127.0.0.1:1 cannot be reached (Connection refused): start it, or check the"
        " address"
    )
