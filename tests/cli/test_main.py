"""The command line, as a process."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechbridge import __version__
from speechbridge.cli.commands import COMMANDS
from speechbridge.cli.exits import FAILED, INTERRUPTED, WRONG
from speechbridge.settings import describe
from tests.helpers.command import PATIENCE, STUB, environment, serving, speechbridge, url_in
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


def test_the_version_is_shown() -> None:
    ran = speechbridge("--version")
    assert (ran.returncode, ran.stdout) == (0, f"speechbridge {__version__}\n")


def loaded(*arguments: str) -> tuple[int, set[str]]:
    """Run a command; return its exit code, and the modules that it loaded."""
    program = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr));"
    program += "from speechbridge.cli.main import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=environment(), capture_output=True, text=True, check=False
    )
    return ran.returncode, set(ran.stderr.splitlines()[-1].split())


def test_help_loads_no_command() -> None:
    code, modules = loaded("--help")
    assert code == 0
    assert modules.isdisjoint({"fastapi", "numpy", "pydantic", "rich", "soundfile", "uvicorn", "websockets"})


@pytest.mark.parametrize("command", [("transcribe",), ("send", "text", "Hello")])
def test_a_client_of_a_service_loads_none(command: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(160), 16000)
    code, modules = loaded(*command, "--url", "ws://127.0.0.1:1", *([str(path)] if command == ("transcribe",) else []))
    assert code == 1
    assert "websockets" in modules
    assert modules.isdisjoint({"fastapi", "janus", "prometheus_client", "rev_ai", "starlette", "uvicorn"})


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_there_and_says_what_the_list_says(name: str) -> None:
    ran = speechbridge(name, "--help")
    assert ran.returncode == 0
    assert "Usage: " in ran.stdout
    assert COMMANDS[name][1] in speechbridge("--help").stdout


def test_an_unknown_command_is_one_clear_error() -> None:
    ran = speechbridge("transcibe", "a.wav")
    assert ran.returncode == 2
    assert "No such command 'transcibe'" in ran.stderr
    assert "transcribe" in ran.stderr


@pytest.mark.parametrize(
    ("typed", "completed"), [("tr", "transcribe"), ("transcribe --for", "--format"), ("send pro", "proxy")]
)
def test_a_shell_can_complete(typed: str, completed: str) -> None:
    words = f"speechbridge {typed}"
    variables = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    program = "import sys; sys.argv[0] = 'speechbridge'; from speechbridge.cli.main import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(_SPEECHBRIDGE_COMPLETE="complete_bash", **variables),
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed in ran.stdout.split(), ran.stderr


def test_ctrl_c_while_it_is_being_loaded_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGINT)")
    ran = subprocess.run(
        [sys.executable, "-m", "speechbridge", "--help"],
        env=environment(PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (INTERRUPTED, "", "")


def test_send_goes_where_the_settings_have_the_service_listen() -> None:
    with serving(SPEECHBRIDGE_START=STUB) as (_, announced):
        port = url_in(announced).rpartition(":")[2]
        sent = speechbridge("send", "text", "Hello", SPEECHBRIDGE_PORT=port)
    assert (sent.returncode, sent.stdout) == (0, "Hello\n")


def test_the_documented_exit_codes_are_these() -> None:
    documented = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text()
    codes = [int(code) for code in re.findall(r"^\| `(\d+)` \|", documented, re.MULTILINE)]
    assert codes == [0, FAILED, WRONG, INTERRUPTED]
