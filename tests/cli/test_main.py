"""The command line, as a process."""

from __future__ import annotations

import signal

import pytest

from speechbridge.settings import describe
from tests.helpers.command import PATIENCE, STUB, serving, speechbridge, url_in
from tests.helpers.secrets import KNOWN

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"SPEECHBRIDGE_PORT": "70000"}, "SPEECHBRIDGE_PORT"),
        ({"SPEECHBRIDGE_START": "nowhere"}, "SPEECHBRIDGE_START: 'nowhere' is not of the form package.module:callable"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_2(variables: dict[str, str], said: str) -> None:
    ran = speechbridge("serve", **variables)
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert said in ran.stderr


def test_help_lists_every_setting() -> None:
    ran = speechbridge("serve", "--help")
    assert ran.returncode == 0
    for name, _, _ in describe():
        assert name in ran.stdout


def test_a_key_is_made_lets_its_owner_in_and_nobody_else() -> None:
    made = speechbridge("key", "alice")
    assert made.returncode == 0
    line, key = made.stdout.strip(), made.stderr.splitlines()[-1]
    KNOWN.add(key)  # not before: this once it was told
    with serving(SPEECHBRIDGE_START=STUB, SPEECHBRIDGE_API_KEYS=line) as (process, announced):
        url = url_in(announced)
        let_in = speechbridge("send", "text", "Hello", "--url", url, SPEECHBRIDGE_KEY=key)
        refused = speechbridge("send", "text", "Hello", "--url", url, SPEECHBRIDGE_KEY=line)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
    assert (let_in.returncode, let_in.stdout) == (0, "Hello\n")
    assert refused.returncode == 1
    assert "SPEECHBRIDGE_KEY" in refused.stderr
    assert key not in announced


def test_a_name_that_can_be_no_key_s_is_refused() -> None:
    made = speechbridge("key", "a:b")
    assert made.returncode == 2
    assert "cannot name a key" in made.stderr
