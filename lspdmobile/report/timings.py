"""What ``lspdmobile benchmark`` found, and how a terminal shows it."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from lspdmobile.report.tables import MISSING, megabytes, milliseconds, quotient

__all__ = ["Benchmark", "Measured", "timing_lines", "timing_table"]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One artifact's figures.

    Attributes:
        file: As it was given.
        executed_by: Runtime and kernels.
        bytes: Of the file.
        median_ms, middle_half_ms: One picture, float32 in and out: median, first and third quartile.
        ratio: Median over the rounds of this file's time over the first file's in the same round.
        ratio_interval: Holds the true median ratio with 95 % confidence where rounds are independent.
        memory_mb: What the file adds to a process while it runs; None where the system does not tell.
    """

    file: str
    executed_by: str
    bytes: int
    median_ms: float
    middle_half_ms: tuple[float, float]
    ratio: float
    ratio_interval: tuple[float, float]
    memory_mb: float | None


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What was measured, and under which circumstances.

    Attributes:
        rows: In the order in which the files were given; the first is what ratios are of.
        left_out: Sentences on files that were not timed.
        threads, rounds, warm_up: As asked for.
        processor: Of this machine.
        versions: Of the tool and the runtimes.
    """

    rows: tuple[Measured, ...]
    left_out: tuple[str, ...]
    threads: int
    rounds: int
    warm_up: int
    processor: str
    versions: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as JSON takes them."""
        return asdict(self)


def timing_table(found: Benchmark) -> Table:
    """Lay out a row per artifact; the first is what ratios are of."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("file")
    for heading in ("MB", "median ms", "middle half", "ratio", "95 % of ratio", "memory MB"):
        table.add_column(heading, justify="right", no_wrap=True)
    folders = {str(Path(row.file).parent) for row in found.rows}
    for row in found.rows:
        table.add_row(Path(row.file).name if len(folders) == 1 else row.file, *_cells(row, first=row is found.rows[0]))
    return table


def timing_lines(found: Benchmark) -> list[str]:
    """Say what was left out, and what the figures are of."""
    runtimes = sorted({row.executed_by for row in found.rows})
    threads = f"{found.threads} thread{'s' if found.threads > 1 else ''}"
    lines = [f"left out: {sentence}" for sentence in found.left_out]
    lines.append(f"{threads}, {found.rounds} rounds in turns after {found.warm_up}; {'; '.join(runtimes)}")
    lines.append(f"host: {found.processor}; phones have other kernels and delegates, so compare files, not devices")
    return lines


def _cells(row: Measured, *, first: bool) -> tuple[str, ...]:
    low, high = row.ratio_interval
    interval = MISSING if first or math.isinf(high) else f"{quotient(low)} to {quotient(high)}"
    return (
        megabytes(row.bytes),
        milliseconds(row.median_ms),
        f"{milliseconds(row.middle_half_ms[0])} to {milliseconds(row.middle_half_ms[1])}",
        quotient(row.ratio),
        interval,
        MISSING if row.memory_mb is None else f"{row.memory_mb:.1f}",
    )
