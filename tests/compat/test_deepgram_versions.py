"""The major versions of the `deepgram-sdk` package, unmodified, stream speech to a service of its own process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from speechbridge.server.admission import make_key
from tests.compat.deepgram_live import OLDER, faults, job_of, run
from tests.helpers.command import serving, url_in
from tests.helpers.packages import installed
from tests.helpers.secrets import KNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.shared_server, pytest.mark.other_version]

KEY, LINE = make_key("ivan")
KNOWN.add(KEY)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Run the service with the embedded recognizer, and return its address for Deepgram's clients."""
    with serving(SPEECHBRIDGE_API_KEYS=LINE, SPEECHBRIDGE_LOG_LEVEL="error") as (_, announced):
        yield url_in(announced).replace("ws://", "http://")


@pytest.fixture(scope="module", params=OLDER)
def packages(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where an older version is. That of the tests' own is tried in `test_deepgram.py`."""
    return installed(OLDER[request.param], tmp_path_factory.mktemp("older"))


@pytest.mark.parametrize("kind", ["samples", "sync", "webm"])
def test_speech_is_heard_live_and_right(kind: str, url: str, packages: Path, tmp_path: Path) -> None:
    seen = run(job_of(kind, tmp_path, url=url, key=KEY, connections=2), packages)
    assert [faults(one) for one in seen] == [[], []]


@pytest.mark.parametrize("kind", ["samples", "sync"])
def test_a_wrong_key_is_refused(kind: str, url: str, packages: Path, tmp_path: Path) -> None:
    [seen] = run(job_of(kind, tmp_path, url=url, key="wrong"), packages)
    # Before version 5 `start` returns False; the sync client of 5 and 6 lets the error of websockets through.
    assert seen["raised"] in (["ApiError", 401], ["InvalidStatus", 401], ["ConnectionError", None])
    assert seen["messages"] == []
