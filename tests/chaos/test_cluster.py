"""Replicas are killed and restarted while streams run: a short run of `python -m tests.chaos.cluster`."""

from __future__ import annotations

import argparse

import pytest

from tests.chaos import cluster


@pytest.mark.parametrize("how", [cluster.KILLS, cluster.RESTARTS])
async def test_nothing_is_lost_or_doubled_whichever_process_ends(how: str, capfd: pytest.CaptureFixture[str]) -> None:
    options = argparse.Namespace(
        streams=4, replicas=2, minutes=1.0, pace=4.0, seed=1, every=20.0, how=how, kill_every=4.0, freeze_every=0.0
    )
    is_good = await cluster.run(options)
    printed = capfd.readouterr().out
    assert is_good, printed
    assert "; 0 replicas" not in printed
    assert "0 streams begun anew" in printed
