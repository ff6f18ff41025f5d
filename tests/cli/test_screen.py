"""What a person sees on a terminal, and that nobody else sees anything."""

from __future__ import annotations

import re
from io import StringIO
from itertools import count

import pytest
from rich.console import Console

from speechbridge.cli.screen import Screen, minutes
from speechbridge.protocol.messages import Element, Final, Partial

ONE = Final(0, 1, (Element("One", ts=0.1, end_ts=0.9), Element(".", "punct")))
BAR = "\u2501" * 22


def test_a_partial_is_overwritten_by_its_final() -> None:
    terminal, screen = _terminal(width=40)
    with screen:
        screen.show(Partial(0, 1, (Element("one"),)))
        assert _seen(terminal) == ["one", "a.wav " + BAR + " 0:00 / 1:15"]
        assert "\x1b[2mone" in terminal.getvalue()  # dim
        screen.show(Partial(0, 1, (Element("won"), Element("too"))))
        assert _seen(terminal)[0] == "won too"
        screen.show(ONE)
        screen.bar(61 / 75, "1:01 / 1:15")
        assert _seen(terminal) == ["One.", "a.wav " + BAR[:17] + "\u2578" + BAR[18:] + " 1:01 / 1:15"]
    assert _seen(terminal) == ["One."]


def test_a_long_partial_shows_its_newest_lines() -> None:
    """A partial of half a minute would push everything else off a small terminal, and could not be overwritten."""
    terminal, screen = _terminal(width=24)
    with screen:
        for words in range(1, 60, 7):
            screen.show(Partial(0, 1, tuple(Element(f"word{n}") for n in range(words))))
        *partial, bar = _seen(terminal)
    assert partial == ["word50 word51 word52", "word53 word54 word55", "word56"]
    assert bar.startswith("a.wav")


def test_lines_for_stdout_take_the_place_of_the_screen() -> None:
    terminal, screen = _terminal(width=40, finals=False)
    with screen:
        for message in (Partial(0, 1, (Element("one"),)), ONE):
            screen.show(message)
        with screen.hidden():
            terminal.write("One.\n")
        screen.show(Partial(1, 2, (Element("two"),)))
        assert _seen(terminal)[:2] == ["One.", "two"]
    assert _seen(terminal) == ["One."]


def test_without_a_terminal_nothing_is_shown() -> None:
    terminal, screen = _terminal(force_terminal=False)
    with screen:
        screen.show(Partial(0, 1, (Element("one"),)))
        screen.show(ONE)
        screen.bar(61 / 75, "1:01 / 1:15")
    assert terminal.getvalue() == ""


def _terminal(*, width: int = 80, force_terminal: bool = True, finals: bool = True) -> tuple[StringIO, Screen]:
    terminal = StringIO()
    environment = {"TERM": "xterm"}  # whatever the tests themselves are run on
    console = Console(
        file=terminal,
        width=width,
        height=10,
        force_terminal=force_terminal,
        color_system="standard",
        _environ=environment,
    )
    screen = Screen("a.wav", console, count().__next__, finals=finals)
    screen.bar(0.0, "0:00 / 1:15")
    return terminal, screen


def _seen(terminal: StringIO) -> list[str]:
    """Return what a person sees: the lines left after all cursor movements."""
    lines, row = [""], 0
    for text, control in re.findall(r"([^\x1b\r\n]+)|(\r|\n|\x1b\[[?0-9;]*[A-Za-z])", terminal.getvalue()):
        if text:
            lines[row] += text
        elif control == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif control == "\x1b[2K":
            lines[row] = ""
        elif control.endswith("A"):
            row -= int(control[2:-1])
    return [line.rstrip() for line in lines if line.strip()]


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (61.9, "1:01"), (3600, "1:00:00")])
def test_a_duration_is_written_as_players_do(seconds: float, shown: str) -> None:
    assert minutes(seconds) == shown
