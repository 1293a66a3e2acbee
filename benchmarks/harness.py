"""What the benchmark scripts share: timing in turns, peak memory, and a script's frame."""

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from rich.console import Console, RenderableType

from lspdmobile.cli.terminal import working
from lspdmobile.errors import LspdmobileError

STATUS: Final = Path("/proc/self/status")
RESET: Final = Path("/proc/self/clear_refs")
_WIDTH: Final = 200
"""Columns of what is written to a file, where a terminal's width would cut tables off."""

K = TypeVar("K")


def median_ms(contenders: Mapping[K, Callable[[], object]], *, rounds: int, warm_up: int = 5) -> dict[K, float]:
    """Give the median milliseconds of each contender; they take turns, so a slow moment of the machine meets all."""
    found: dict[K, list[float]] = {name: [] for name in contenders}
    for turn in range(warm_up + rounds):
        for name, contender in contenders.items():
            started = time.perf_counter()
            contender()
            if turn >= warm_up:
                found[name].append(1000 * (time.perf_counter() - started))
    return {name: statistics.median(times) for name, times in found.items()}


def peak_mb() -> float:
    """Give the largest resident memory since the last reset, or since the start where it cannot be reset."""
    if STATUS.exists():
        line = next(line for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def reset_peak() -> bool:
    """Start measuring the peak anew; False where the system does not allow it."""
    try:
        RESET.write_text("5", encoding="utf-8")
    except OSError:
        return False
    return True


def printed(
    options: argparse.Namespace,
    measure: Callable[[argparse.Namespace], Any],
    show: Callable[[Any], RenderableType],
) -> tuple[Any, int]:
    """Measure and print, as JSON where ``options.json`` is set.

    Returns:
        What was measured (None where that failed), and the exit code.
    """
    try:
        with working(verbose=False):
            found = measure(options)
    except LspdmobileError as error:
        print(f"error: {error}", file=sys.stderr)
        return None, error.exit_code
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        Console(width=None if sys.stdout.isatty() else _WIDTH).print(show(found))
    return found, 0
