"""What commands write to the terminal: results on standard output, progress and errors on standard error.

Converters and runtimes write warnings and logs from Python and from C++ straight to file descriptors 1 and 2. While a
command works, both descriptors lead to a temporary file; our own output keeps copies of the real ones.
"""

import json
import logging
import os
import sys
import tempfile
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from lspdmobile.cli.interrupt import stop_if_asked

__all__ = ["Terminal", "relative", "working"]

_PIPE_WIDTH: Final = 120
_READABLE: Final = 100
_LONGEST_STEPS: Final = 6
_INDENT: Final = " " * 8


class Terminal:
    """Standard output and standard error as the user sees them."""

    def __init__(self, out: IO[str], err: IO[str]) -> None:
        width = None if out.isatty() else _PIPE_WIDTH
        self.out = Console(file=out, width=width, highlight=False)
        self.err = Console(file=err, highlight=False)
        self._bar: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._spent: dict[str, float] = {}
        self._step, self._since = "", 0.0

    def show(self, *things: RenderableType) -> None:
        """Print a result."""
        for thing in things:
            self.out.print(thing, soft_wrap=isinstance(thing, str))

    def show_wrapped(self, *lines: str) -> None:
        """Print lines that may be long, folded at blanks so that they can be read in 100 columns or fewer."""
        width = min(self.out.width, _READABLE)
        for line in lines:
            folded = textwrap.wrap(
                line, width, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False
            )
            self.out.print("\n".join(folded), soft_wrap=True, markup=False)

    def show_json(self, fields: Any) -> None:
        """Print a result as JSON."""
        self.out.file.write(json.dumps(fields, indent=2, ensure_ascii=False) + "\n")

    def progress(self, step: str, done: int, total: int) -> None:
        """Move the bar of a step; a new name starts a new line, and ends steps without parts, whose total is 1.

        Raises:
            KeyboardInterrupt: The user asked to stop and a library swallowed it.
        """
        stop_if_asked()
        if step != self._step:
            self._count(step)
        if self._bar is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=self.err, disable=not self.err.is_terminal)
            self._bar.start()
        if step not in self._tasks or self._bar.tasks[self._tasks[step]].finished:
            _end_steps(self._bar, parts=1)
            self._tasks[step] = self._bar.add_task(step, total=total)
        self._bar.update(self._tasks[step], completed=done, total=total)

    def time_line(self) -> str:
        """Say what took longest; steps at the same time share it by who reports. Empty where nothing took a second."""
        self._count("")
        total = sum(self._spent.values())
        longest = sorted(self._spent, key=lambda step: -self._spent[step])
        told = [f"{step} {self._spent[step]:.0f}" for step in longest[:_LONGEST_STEPS] if self._spent[step] >= 1]
        rest = total - sum(self._spent[step] for step in longest[: len(told)])
        return f"seconds: {total:.0f} in all; {', '.join(told)}, everything else {rest:.0f}" if told else ""

    def _count(self, step: str) -> None:
        """Begin a step, and end the one under way."""
        now = time.perf_counter()
        if self._step:
            self._spent[self._step] = self._spent.get(self._step, 0.0) + now - self._since
        self._step, self._since = step, now

    def close(self) -> None:
        """Stop the bar."""
        if self._bar is not None:
            _end_steps(self._bar)
            self._bar.stop()
            self._bar = None
        self._tasks.clear()


def _end_steps(bar: Progress, *, parts: int | None = None) -> None:
    """Show steps as done: those of so many parts, or all."""
    for task in bar.tasks:
        if parts in (None, task.total):
            bar.update(task.id, completed=task.total)


@contextmanager
def working(*, verbose: bool) -> Iterator[Terminal]:
    """Give the terminal, with everybody else's output kept off it unless ``verbose``."""
    if verbose:
        terminal = Terminal(sys.stdout, sys.stderr)
        try:
            yield terminal
        finally:
            terminal.close()
        return
    with _redirected() as terminal, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield terminal
        finally:
            terminal.close()
            logging.disable(logging.NOTSET)


@contextmanager
def _redirected() -> Iterator[Terminal]:
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    restored = [_opened(fd) for fd in (os.dup(kept[0]), os.dup(kept[1]))]
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 1)
        os.dup2(sink.fileno(), 2)
        try:
            yield Terminal(*restored)
        finally:
            for stream in (sys.stdout, sys.stderr, *restored):
                _ignore_broken_pipe(stream.flush)
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
            for fd in kept:
                os.close(fd)
            for stream in restored:
                _ignore_broken_pipe(stream.close)


def _opened(fd: int) -> IO[str]:
    return os.fdopen(fd, "w", encoding="utf-8", errors="replace")


def _ignore_broken_pipe(action: Callable[[], Any]) -> None:
    try:
        action()
    except BrokenPipeError:
        return


def relative(path: Path) -> str:
    """Give a path as short as it can be typed."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
