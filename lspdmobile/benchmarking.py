"""Latency and memory of artifacts on this machine, taken in turns."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from converters import FORMATS
from lspdmobile.artifact import Executor, size_in_bytes
from lspdmobile.environment import processor, versions
from lspdmobile.errors import BadInputError, EnvironmentLacksError
from lspdmobile.measuring import Progress
from lspdmobile.memory import added_by, input_shape
from lspdmobile.predictor import converter_of
from lspdmobile.report.timings import Benchmark, Measured
from lspdmobile.timing import Timing, in_turns, median_interval

__all__ = ["artifacts_among", "benchmark"]

_SEED: Final = 0


@dataclass(frozen=True, kw_only=True)
class _Opened:
    path: Path
    executor: Executor
    shape: tuple[int, ...]


def artifacts_among(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Give the artifacts named, and for each other folder those in it, sorted by name.

    Raises:
        BadInputError: A path does not exist, or is neither an artifact nor a folder with one.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            message = f"{path}: no such artifact or folder"
            raise BadInputError(message)
        inside = [path] if converter_of(path) else sorted(p for p in path.glob("*") if converter_of(p))
        if not inside:
            message = (
                f"{path}: neither an artifact ({', '.join(c.SUFFIX for c in FORMATS.values())}) nor a folder of some"
            )
            raise BadInputError(message)
        found += [p for p in inside if p not in found]
    return tuple(found)


def benchmark(
    artifacts: Sequence[Path], *, threads: int, rounds: int, warm_up: int, memory: bool, progress: Progress
) -> Benchmark:
    """Time artifacts in turns on the same picture, and weigh each in a process of its own.

    Files that this machine can only run in a stand-in for their runtime are left out: its time says nothing.

    Args:
        artifacts: Files, ours or not; the first one timed is what ratios are of.
        threads: Of the runtimes.
        rounds: Counted calls of each file.
        warm_up: Calls of each before those.
        memory: Whether to measure that as well; it takes a process each.
        progress: Told of each round.

    Raises:
        BadInputError: A file cannot be read.
        ConversionError: A runtime refuses a file.
        EnvironmentLacksError: No file is left that can be timed here.
    """
    opened, left_out = _opened(artifacts, threads)
    if not opened:
        message = f"nothing to time here: {'; '.join(left_out)}"
        raise EnvironmentLacksError(message)
    inputs = np.random.default_rng(_SEED)
    runs = {
        one.path: partial(one.executor.heatmaps, inputs.standard_normal(one.shape).astype(np.float32)) for one in opened
    }
    times = in_turns(
        runs, rounds=rounds, warm_up=warm_up, progress=lambda done, total: progress("time in turns", done, total)
    )
    rows = []
    for i, one in enumerate(opened):
        progress("measure memory", i, len(opened))
        weighed = added_by(one.path, threads=threads) if memory else None
        rows.append(_row(one, times[one.path], times[opened[0].path], weighed))
    return Benchmark(
        rows=tuple(rows),
        left_out=left_out,
        threads=threads,
        rounds=rounds,
        warm_up=warm_up,
        processor=processor(),
        versions=versions(),
    )


def _opened(artifacts: Sequence[Path], threads: int) -> tuple[list[_Opened], tuple[str, ...]]:
    opened: list[_Opened] = []
    left_out: list[str] = []
    for path in artifacts:
        known = converter_of(path)
        if known is None:
            message = f"{path}: an artifact is a .tflite, .pte or .mlpackage"
            raise BadInputError(message)
        facts = known[1].inspect(path)
        executor = known[1].open_executor(path, threads=threads)
        if executor.caveat:
            left_out.append(f"{path.name} is run here by {executor.name}, whose time says nothing about phones")
            continue
        opened.append(_Opened(path=path, executor=executor, shape=input_shape(facts.inputs[0].shape)))
    return opened, tuple(left_out)


def _row(one: _Opened, own: Timing, baseline: Timing, memory_mb: float | None) -> Measured:
    ratios = own.ratios(baseline)
    return Measured(
        file=str(one.path),
        executed_by=one.executor.name,
        bytes=size_in_bytes(one.path),
        median_ms=own.median,
        middle_half_ms=own.middle_half,
        ratio=float(np.median(ratios)),
        ratio_interval=median_interval(ratios),
        memory_mb=memory_mb,
    )
