"""`speechbridge capacity`, run as a user runs it, with few streams."""

from __future__ import annotations

import re

import pytest

from tests.helpers.command import STUB, speechbridge

SMALL = ("--seconds", "1", "--most", "3", "--bound", "10000")

NOWHERE = "http://127.0.0.1:1"
CONFIGURED = {
    "revai": {"REVAI_ACCESS_TOKEN": "token"},
    "google": {"SPEECHBRIDGE_GOOGLE_PROJECT": "p", "SPEECHBRIDGE_GOOGLE_ENDPOINT": NOWHERE},
    "riva": {"SPEECHBRIDGE_RIVA_URL": NOWHERE},
}

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("engine", ["revai", "google", "riva"])
def test_the_service_is_measured_with_the_sdk_of_its_engine(engine: str) -> None:
    if engine != "revai":
        pytest.importorskip("grpc", reason="its SDK is not installed")
    ran = speechbridge("capacity", *SMALL, **CONFIGURED[engine], SPEECHBRIDGE_ENGINE=engine)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert f"With the SDK of {engine}, the service carries 3 streams with a p99 under 10000 ms:" in ran.stdout
    assert ran.stdout.splitlines()[-1] == "  SPEECHBRIDGE_MAX_SESSIONS=2"


def test_the_embedded_recognizer_is_measured_with_speech() -> None:
    ran = speechbridge("capacity", *SMALL[2:], "--seconds", "2")
    assert (ran.returncode, ran.stderr) == (0, "")
    found = re.findall(r"The recognizer with (\d+) streams of speech: finals after .* s\), 0 failed\.", ran.stdout)
    assert ran.stdout.splitlines()[-1] == f"  SPEECHBRIDGE_RECOGNIZER_STREAMS={found[-1]}"


def test_a_function_whose_upstream_nobody_can_play_is_refused() -> None:
    ran = speechbridge("capacity", SPEECHBRIDGE_START=STUB)
    assert ran.returncode == 2
    assert ran.stderr == (
        "speechbridge: capacity cannot play the speech service of function, only of embedded, revai, google, riva\n"
    )


def test_a_service_that_does_not_start_says_why() -> None:
    ran = speechbridge("capacity", *SMALL, SPEECHBRIDGE_PROCESSORS="nothing:here")
    assert ran.returncode == 1
    assert "SPEECHBRIDGE_PROCESSORS" in ran.stderr
