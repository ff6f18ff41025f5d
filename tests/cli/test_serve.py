"""`speechbridge serve`: what it announces, where it starts, and how it ends."""

# ruff: noqa: S104 # where it listens on all addresses, it has keys

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from speechbridge.cli import serve
from speechbridge.settings import Settings
from tests.helpers.clip import TWO_VOICES
from tests.helpers.command import HEARS_HELLO, PATIENCE, STUB, environment, serving, speechbridge, url_in
from tests.helpers.secrets import KNOWN

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_serve_announces_itself_and_ends_well_on_a_signal(ending: signal.Signals) -> None:
    with serving(SPEECHBRIDGE_START=STUB) as (process, announced):
        process.send_signal(ending)
        _, logged = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "ws://127.0.0.1:" in announced
    assert "-m speechbridge transcribe --url ws://127.0.0.1:" in announced
    assert "Traceback" not in logged


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_port_in_use_is_one_line_before_anything_is_started(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = speechbridge("serve", "--host", host, "--port", str(port))
    assert ran.returncode == 1
    cure = "the port is taken; --port, or SPEECHBRIDGE_PORT, names another"
    assert ran.stderr == f"speechbridge: the service cannot start on {host}:{port}: {cure}\n"


@pytest.mark.parametrize(("folder", "said"), [("nowhere", "that folder does not exist"), (".", "tokenizer.bin")])
def test_a_model_that_is_missing_or_wrong_is_one_clear_line(folder: str, said: str, tmp_path: Path) -> None:
    ran = speechbridge(
        "serve", "--port", "0", SPEECHBRIDGE_MODEL=str(tmp_path / folder), SPEECHBRIDGE_LOG_FORMAT="text"
    )
    assert ran.returncode == 1
    (line,) = [line for line in ran.stderr.splitlines() if "INFO" not in line]
    assert line.startswith("speechbridge: the embedded recognizer did not start: ")
    assert said in line


def test_a_recognizer_that_cannot_start_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "pocketsphinx.py").write_text("raise ImportError('no model here')")
    ran = speechbridge("serve", "--port", "0", PYTHONPATH=str(tmp_path))
    assert ran.returncode == 1
    assert "no model here" in ran.stderr
    assert ran.stderr.splitlines()[-1] == "speechbridge: the service cannot start: the reason is in the log above"


def test_bound_where_others_reach_it_and_without_keys_it_does_not_start() -> None:
    ran = speechbridge("serve", "--host", "0.0.0.0", "--port", "0", SPEECHBRIDGE_START=STUB)  # refused
    assert ran.returncode == 2
    assert "speechbridge key NAME" in ran.stderr


def test_a_host_that_is_not_ours_is_one_line() -> None:
    for host, why in (
        ("192.0.2.1", "this machine does not have that address"),
        ("no.such.host.", "there is no such host"),
    ):
        ran = speechbridge("serve", "--host", host, SPEECHBRIDGE_API_KEYS=f"a:{'0' * 64}")
        assert ran.returncode == 1
        assert ran.stderr.startswith(f"speechbridge: the service cannot start on {host}:8000: {why}; --host")
        assert ran.stderr.count("\n") == 1


# ---- the announcement ------------------------------------------------------------------------------------------------


def commands(announced: str) -> list[str]:
    """Return what is to be pasted into another terminal."""
    _, _, last = re.split(r"(In another terminal.*:\n)", announced)
    return re.findall(r"^  (.+)$", last, re.MULTILINE)


def test_what_it_announces_works_when_it_is_pasted() -> None:
    """Also with keys, and on another port: the shell asks for the key."""
    made = speechbridge("key", "alice")
    key = made.stderr.splitlines()[-1]
    KNOWN.add(key)
    with serving(SPEECHBRIDGE_START=HEARS_HELLO, SPEECHBRIDGE_API_KEYS=made.stdout.strip(), SPEECHBRIDGE_KEY="no") as (
        _,
        announced,
    ):
        ask, _mic, transcribe = commands(announced)
        script = f"{ask}\n{transcribe.replace('FILE...', f'--pace fast {TWO_VOICES}')}"
        pasted = subprocess.run(
            ["sh", "-c", script],
            input=key,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert (pasted.returncode, pasted.stdout) == (0, "Hello.\n"), pasted.stderr


@pytest.mark.parametrize(
    ("url", "host", "keys", "expected"),
    [
        ("ws://127.0.0.1:8000", "127.0.0.1", "", ["speechbridge mic", "speechbridge transcribe FILE..."]),
        ("ws://127.0.0.1:8080", "127.0.0.1", "", ["speechbridge mic --url ws://127.0.0.1:8080"]),
        ("ws://[::1]:8000", "::1", "", ["speechbridge mic --url 'ws://[::1]:8000'"]),
        (
            "ws://127.0.0.1:8000",
            "0.0.0.0",
            "a:0",
            [
                "read -r SPEECHBRIDGE_KEY; export SPEECHBRIDGE_KEY",
                "speechbridge mic",
                "speechbridge transcribe FILE...",
            ],
        ),
    ],
)
def test_the_announcement_fits_address_and_keys(url: str, host: str, keys: str, expected: list[str]) -> None:
    announced = serve.announcement(url, Settings.read(host=host, api_keys=keys), "speechbridge")
    for command, beginning in zip(commands(announced), expected, strict=False):
        assert command.startswith(beginning)
    assert f"  {url.replace('ws', 'http')}  the captions page" in announced
    assert ("from elsewhere, use this machine's address" in announced) == (host == "0.0.0.0")  # what is tested


@pytest.mark.parametrize(
    ("ourselves", "where"),
    [
        ("speechbridge", ""),
        ("/opt/venv/bin/speechbridge", ""),
        (".venv/bin/speechbridge", ", in this folder"),
        ("'a folder/bin/speechbridge'", ", in this folder"),
        (".venv/bin/python -m speechbridge", ", in this folder"),
    ],
)
def test_a_relative_command_is_said_to_need_this_folder(ourselves: str, where: str) -> None:
    announced = serve.announcement("ws://127.0.0.1:8000", Settings.read(), ourselves)
    assert f"\nIn another terminal{where}:\n" in announced


def test_with_keys_the_whole_block_can_be_pasted_step_by_step() -> None:
    """`read` takes the line after it, so none follows at once; zsh knows no comments at its prompt."""
    announced = serve.announcement("ws://127.0.0.1:8000", Settings.read(api_keys="a:0"), "speechbridge")
    assert "; export SPEECHBRIDGE_KEY\n\n" in announced
    assert "#" not in announced


def test_it_listens_on_all_addresses_and_names_one_that_can_be_opened() -> None:
    with serving(SPEECHBRIDGE_START=STUB, SPEECHBRIDGE_HOST="0.0.0.0", SPEECHBRIDGE_API_KEYS=f"a:{'0' * 64}") as (
        _,
        announced,
    ):
        assert url_in(announced).startswith("ws://127.0.0.1:")
        assert "0.0.0.0:" not in announced.replace("It listens on 0.0.0.0: from", "")


@pytest.mark.parametrize(
    ("called", "activated", "expected"),
    [
        ("{here}/.venv/bin/speechbridge", "", ".venv/bin/speechbridge"),
        ("{here}/.venv/bin/speechbridge", "{here}/.venv", ".venv/bin/speechbridge"),
        ("{tools}/speechbridge", "", "speechbridge"),
        ("{tools}/speechbridge", "{tools}", "{tools}/speechbridge"),
        ("{here}/a folder/speechbridge", "", "'a folder/speechbridge'"),
        ("{here}/speechbridge/__main__.py", "", "{python} -m speechbridge"),
    ],
)
def test_we_name_ourselves_as_another_shell_understands_it(
    called: str, activated: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, tools = tmp_path / "here", tmp_path / "tools"
    for folder in (here, tools):
        folder.mkdir()
    (tools / "speechbridge").touch(mode=0o755)
    names = {"here": here, "tools": tools, "python": sys.executable}
    monkeypatch.chdir(here)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("VIRTUAL_ENV", activated.format(**names) or "/nowhere")
    monkeypatch.setattr(sys, "argv", [called.format(**names)])
    assert serve._ourselves() == expected.format(**names)


# ---- without terminal or files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_it_serves_with_descriptors_closed(closed: str) -> None:
    """As cron and some supervisors start it."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    command = f"exec '{sys.executable}' -m speechbridge serve --port {port} {closed}"
    with subprocess.Popen(["sh", "-c", command], env=environment(SPEECHBRIDGE_START=STUB)) as process:
        try:
            url = f"ws://127.0.0.1:{port}"
            began = time.monotonic()
            while (sent := speechbridge("send", "text", "Hello", "--url", url)).returncode:
                assert process.poll() is None, "it ended"
                assert time.monotonic() - began < PATIENCE, sent.stderr
            assert sent.stdout == "Hello\n"
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 0


@pytest.mark.parametrize(("options", "says"), [(["-q"], False), ([], True), (["-v"], True)])
def test_quiet_announces_and_logs_nothing(options: list[str], *, says: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    command = [sys.executable, "-m", "speechbridge", "serve", "--port", str(port), *options]
    variables = environment(SPEECHBRIDGE_START=STUB, SPEECHBRIDGE_LOG_FORMAT="text")
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while speechbridge("send", "text", "Hello", "--url", f"127.0.0.1:{port}").returncode:
            assert process.poll() is None, "it ended"
        process.send_signal(signal.SIGTERM)
        announced, logged = process.communicate(timeout=PATIENCE)
    assert ("speechbridge is listening" in announced) == says
    assert (" INFO " in logged) == says
