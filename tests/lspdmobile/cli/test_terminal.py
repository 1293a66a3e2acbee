"""What the terminal says of where the time went."""

import io
import time
from collections.abc import Sequence

import pytest

from lspdmobile.cli.terminal import Terminal


def _told(monkeypatch: pytest.MonkeyPatch, steps: Sequence[tuple[float, str]], end: float) -> str:
    """Give the line after steps that report at these seconds."""
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    terminal = Terminal(io.StringIO(), io.StringIO())
    for clock[0], step in steps:
        terminal.progress(step, 0, 1)
    clock[0] = end
    terminal.close()
    return terminal.time_line()


def test_a_step_lasts_until_the_next_and_goes_on_when_named_again(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [(0.0, "fuse"), (3.0, "emit"), (4.0, "fuse"), (14.0, "fuse"), (15.0, "emit"), (16.0, "write")]
    assert _told(monkeypatch, steps, 16.5) == "seconds: 16 in all; fuse 14, emit 2, everything else 0"


def test_only_the_longest_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [(10.0 * i, f"step {i}") for i in range(9)]
    named = ", ".join(f"step {i} 10" for i in range(6))
    assert _told(monkeypatch, steps, 90.0) == f"seconds: 90 in all; {named}, everything else 30"


def test_what_takes_no_time_is_not_worth_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _told(monkeypatch, [(0.0, "fuse")], 0.4) == ""
    assert _told(monkeypatch, [], 5.0) == ""
