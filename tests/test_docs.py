"""README.md, bridge/README.md and docs/: their links lead somewhere, their Python compiles, their figures agree."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import click
import pytest
import typer

from speechbridge.cli.commands import cli
from speechbridge.protocol.close import Close, CloseCode
from speechbridge.settings import describe
from syncbridge.resumable.watchdog import TRANSITIONS
from syncbridge.testing import Behaviour
from tests import reference

ROOT = Path(__file__).parents[1]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *(ROOT / folder / "README.md" for folder in ("bridge", "examples")),
    *sorted((ROOT / "docs").glob("*.md")),
]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """Return the names that a forge gives the headings: in lower case, hyphens for blanks, no other signs."""
    titles = HEADING.findall(prose(page))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_relative_link_and_anchor_resolves(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_pages_that_errors_and_settings_name_are_there() -> None:
    """A message that names a page sends its reader there."""
    code = [path for folder in ("app", "bridge") for path in (ROOT / folder).rglob("*.py")]
    named = {page for path in code for page in re.findall(r"docs/[\w-]+\.md", path.read_text())}
    assert {page for page in named if not (ROOT / page).exists()} == set()
    assert "docs/embedding.md" in named


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_no_mark_of_a_merge_is_left(page: Path) -> None:
    assert not re.search(r"^(<<<<<<<|=======|>>>>>>>)( |$)", page.read_text(), re.MULTILINE)


def test_the_readme_leads_to_every_page_of_the_docs() -> None:
    linked = {link.partition("#")[0] for link in LINK.findall(prose(ROOT / "README.md"))}
    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} <= linked


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_example_compiles(page: Path) -> None:
    """Examples show what goes into a coroutine, so `await` may stand at their top level."""
    for language, example in FENCE.findall(page.read_text()):
        if language == "python":
            compile(example, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        elif language == "json":
            json.loads(example)


@pytest.mark.parametrize("page", reference.TABLES)
def test_a_reference_says_what_is_in_the_code(page: str) -> None:
    is_true = reference.written(page, reference.TABLES[page]()) == (ROOT / "docs" / page).read_text()
    assert is_true, f"docs/{page} differs from the code: python -m tests.reference writes it"


def test_every_close_code_is_described() -> None:
    rows = re.findall(r"^\| ([\d, ]+)\b.*\| (.*) \|$", (ROOT / "docs" / "close-codes.md").read_text(), re.MULTILINE)
    described = {int(code): retry for codes, retry in rows for code in codes.split(", ")}
    never_sent = {CloseCode.GOING_AWAY, CloseCode.NO_CODE, CloseCode.ABNORMAL, CloseCode.TRY_AGAIN_LATER}
    assert described.keys() == {int(code) for code in CloseCode if code not in never_sent}, "docs/close-codes.md"
    permanent = {code for code in described if not Close(code).is_retryable}
    assert permanent == {code for code, retry in described.items() if retry.startswith("no")}


def test_every_behaviour_of_a_fake_is_described() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "bridge" / "README.md").read_text(), re.MULTILINE)
    assert rows == [behaviour.name for behaviour in Behaviour]


def test_the_picture_of_the_watchdog_is_its_table() -> None:
    text = (ROOT / "docs" / "how-it-works.md").read_text()
    arrows = re.findall(r"^    (\w+) --> (\w+): (.+)$", text, re.MULTILINE)
    drawn = {(state, event): after for state, after, events in arrows for event in events.split(", ")}
    moves = {(state, event): after for state, row in TRANSITIONS.items() for event, after in row.items()}
    assert drawn == {move: after for move, after in moves.items() if after is not move[0]}


@pytest.mark.slow
def test_the_pages_are_built_without_a_warning(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    named = re.findall(r"(\S+)\.md$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert all((tmp_path / name / "index.html").exists() for name in named if name != "index")


def test_the_options_in_the_address_of_an_overlay_are_all_described() -> None:
    code = (ROOT / "app" / "speechbridge" / "server" / "static" / "overlay.mjs").read_text()
    read = set(re.findall(r'(?:number|oneOf|color|given\.get)\("(\w+)"', code)) - {"key"}
    table = (ROOT / "docs" / "page.md").read_text()
    described = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    assert read == described


def test_the_figures_in_the_readme_are_those_of_the_last_measurement() -> None:
    summary = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", (ROOT / "README.md").read_text(), re.MULTILINE))
    measured = (ROOT / "docs" / "performance.md").read_text()
    (sessions,) = re.findall(r"One process: (\d+) sessions with a p99 under 100 ms", measured)
    memory = re.findall(r"a session takes [\d.]+ threads and (\d+ KiB)", measured)
    (chunk,) = re.findall(r"^\| service \| [^|]+\| ([\d.]+) \| ([\d.]+) \|", measured, re.MULTILINE)
    assert summary["sessions in one process with a p99 under 100 ms"] == sessions
    assert summary["memory for one session"] == memory[0]
    assert summary["a chunk's way through the service, 200 sessions"] == "p50 {} ms, p99 {} ms".format(*chunk)


def shell_lines() -> list[tuple[str, str]]:
    """Return each line of a shell in the docs, with its page."""
    return [
        (str(page.relative_to(ROOT)), line)
        for page in PAGES
        for language, example in FENCE.findall(page.read_text())
        if language == "sh"
        for line in example.splitlines()
    ]


def test_every_command_of_ours_in_a_shell_has_the_options_that_it_is_given() -> None:
    commands = cast("click.Group", typer.main.get_command(cli))
    met = set()
    for page, line in shell_lines():
        for name, rest in re.findall(r"\bspeechbridge ([a-z]+)\b([^|#]*)", line):
            command = commands.get_command(click.Context(commands), name)
            if "docker run" in line and command is None:  # the image's name, before the command
                continue
            assert command is not None, f"{page}: {line}"
            options = {option for parameter in command.params for option in parameter.opts}
            assert set(re.findall(r"(?<=\s)--?[a-z][\w-]*", rest)) <= options, f"{page}: {line}"
            met.add(name)
    assert {"serve", "transcribe", "key", "doctor", "capacity"} <= met


def test_every_example_is_listed() -> None:
    listed = set(re.findall(r"^\| \[`(\S+)`\]", (ROOT / "examples" / "README.md").read_text(), re.MULTILINE))
    assert listed == {path.name for path in (ROOT / "examples").iterdir() if path.suffix in {".py", ".html"}}


def test_every_target_and_module_in_the_docs_is_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    modules = set()
    for page in PAGES:
        text = page.read_text()
        assert set(re.findall(r"(?:`|\n)make ([a-z]+)", text)) <= targets, page
        modules |= set(re.findall(r"-m ((?:tests|speechbridge)(?:\.\w+)*)", text))
    assert "tests.chaos" in modules
    assert [module for module in sorted(modules) if find_spec(module) is None] == []


def test_every_setting_that_the_docs_name_is_one() -> None:
    known = {name for name, _, _ in describe()}
    of_compose = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    for page in PAGES:
        named = set(re.findall(r"\bSPEECHBRIDGE_[A-Z_]*[A-Z]\b", page.read_text()))
        assert named <= known | of_compose, page
