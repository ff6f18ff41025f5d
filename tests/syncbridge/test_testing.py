"""The suite that is shipped: an SDK that does everything right passes it, and each mistake is found by a check."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from syncbridge.testing import CHECKS, fake

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_the_fake_sdk_conforms(check: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    await check(fake)
