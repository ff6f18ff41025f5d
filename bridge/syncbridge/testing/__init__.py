"""Checks of an SDK's adapter: whether it does what a bridge and a resumable stream rely on.

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    async def test_my_adapter_conforms(check):
        await check(subject)

`subject(behaviour)` is an async context manager that yields a `Subject`: your adapter with a service of this behaviour,
a fake or the real one. A check raises AssertionError, whose text says what is wrong. `FakeSdk` is an SDK in the same
process with a given behaviour, for tests of what is built on a bridge; `fake` is its subject.
"""

from syncbridge.testing.checks import CHECKS
from syncbridge.testing.fake import FakeConnection, FakeSdk, Response, fake
from syncbridge.testing.subject import Behaviour, Opened, Subject, from_now_on

__all__ = [
    "CHECKS",
    "Behaviour",
    "FakeConnection",
    "FakeSdk",
    "Opened",
    "Response",
    "Subject",
    "fake",
    "from_now_on",
]
