"""What the page's tests need and a machine may not have: they are skipped, with the reason."""

from __future__ import annotations

import shutil

import pytest


def node() -> str:
    path = shutil.which("node")
    if path is None:
        pytest.skip("node is not on this machine")
    return path
