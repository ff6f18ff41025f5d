"""What a command shows on a terminal while it runs: live captions, and a bar. The only import of rich.

Both go to stderr, and only if that is a terminal.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column
from rich.text import Text

from speechbridge.cli.output import Verbosity, is_terminal, verbosity
from speechbridge.protocol.captions import line, printable
from speechbridge.protocol.messages import Final, Partial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PARTIAL_LINES = 3  # the newest lines of a partial: more would push finals off a small terminal
FRAME = 0.05  # least seconds between two updates of the terminal


class Screen:
    """A few lines at the bottom of a terminal: the current partial, and a bar with a name.

    If stderr is not a terminal, it shows nothing. With `finals` it also prints finals, above those lines.
    """

    def __init__(
        self, name: str, console: Console, now: Callable[[], float] = time.monotonic, *, finals: bool = True
    ) -> None:
        self._console = console
        self._now = now
        self._finals = finals
        self._partial = ""
        self._is_hidden = False
        self._drawn = now()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
            BarColumn(bar_width=None, finished_style="bar.complete"),  # a full bar may be a loud sound, not an end
            TextColumn("{task.fields[text]}", markup=False, table_column=Column(no_wrap=True)),
            console=console,
            expand=True,
        )
        self._bar = self._progress.add_task(printable(name), total=1.0, text="")
        self._live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,  # rich would redirect it to stderr
            redirect_stderr=False,
            get_renderable=self._render,
        )

    @classmethod
    def on_stderr(cls, name: str, *, writes_finals: bool = False) -> Self:
        """Make the screen of a command. `writes_finals`: the command writes finals to stdout itself."""
        shows = is_terminal(sys.stderr) and verbosity() is Verbosity.NORMAL
        console = Console(stderr=True, force_terminal=shows, force_interactive=shows)
        return cls(name, console, finals=not (writes_finals and is_terminal(sys.stdout)))

    def __enter__(self) -> Self:
        if self._console.is_interactive:
            self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, message: Partial | Final) -> None:
        """Show a partial in place of the previous one, or print a final."""
        if isinstance(message, Partial):
            self._partial = line(message)
        else:
            self._partial = ""
            if self._finals and self._live.is_started and (text := line(message)):
                self._console.print(text, markup=False, highlight=False, emoji=False)
        self._draw()

    def bar(self, part: float | None, text: str) -> None:
        """Fill a part of the bar, 0 to 1, and write a text beside it. None: the whole is not known."""
        self._progress.update(self._bar, completed=part or 0.0, text=text)
        if self._now() - self._drawn >= FRAME:
            self._draw()

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Remove the lines while something else writes: stdout may be the same terminal."""
        self._is_hidden = True
        self._draw()
        yield
        self._is_hidden = False
        self._draw()

    def _draw(self) -> None:
        self._drawn = self._now()
        if self._live.is_started:
            self._live.refresh()

    def _render(self) -> RenderableType:
        if self._is_hidden:
            return Text()
        partial = Text(self._partial, style="dim").wrap(self._console, self._console.width)
        return Group(*partial[-PARTIAL_LINES:], self._progress.get_renderable())


def minutes(seconds: float) -> str:
    """Format a duration as media players do: 1:01, 1:00:01."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
