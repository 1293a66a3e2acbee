"""Prices of the operators that fusion chooses between, measured on this machine through the emitters and runtimes.

    python benchmarks/fusion_cost.py            # measure, print the prices' fit, write this machine's cache
    python benchmarks/fusion_cost.py --forms    # do the prices foretell other shapes, and rank the forms of a block?
    python benchmarks/fusion_cost.py --output lspdmobile/fusion/default_costs.json

Each network holds a few equal layers between a stem and a head; the time of stem and head alone is subtracted. All
files are emitted first. Then the executors take turns: in every round each runs its picture three times and the fastest
counts; the median over the rounds is taken. One thread per runtime; what counts is its CPU time, in which the turns of
other programs are not.
"""

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.fusion_layers import Case, Contender, calibration_cases, contenders_of, form_groups, held_out_cases
from converters import FORMATS
from lspdmobile.artifact import EmitRequest
from lspdmobile.choices import Format, Precision
from lspdmobile.fusion.measurements import Machine, Measurements, Sample, cache_path
from lspdmobile.fusion.operations import Dtype, Op
from lspdmobile.fusion.targets import Target, target_named, target_on
from quantization.calibrate import calibrate

RUNTIMES: Final = {"litert-xnnpack": Format.TFLITE, "executorch-xnnpack": Format.EXECUTORCH}
PRECISIONS: Final[dict[Dtype, Precision]] = {"fp32": Precision.FP32, "int8": Precision.W8A8}
CALLS: Final = 3

Key = tuple[str, Dtype, str]
Times = dict[tuple[str, Dtype, int], float]


def executors(contenders: Mapping[str, Contender], folder: Path) -> dict[Key, tuple[Any, Any]]:
    """Emit every network for its targets, load the files, and run each once."""
    loaded: dict[Key, tuple[Any, Any]] = {}
    for number, (key, contender) in enumerate(contenders.items()):
        progress(f"emit {number + 1}/{len(contenders)}: {key}")
        torch.manual_seed(number)
        network = contender.network().eval()
        picture = np.random.default_rng(number).standard_normal((1, 3, *contender.size)).astype(np.float32)
        for dtype, precision in ((dtype, PRECISIONS[dtype]) for dtype in contender.dtypes):
            plan = calibrate(network, picture, precision=precision)
            for target in contender.targets:
                converter = FORMATS[RUNTIMES[target]]
                path = folder / f"{number}_{dtype}{converter.SUFFIX}"
                converter.emit(
                    EmitRequest(
                        network=network,
                        plan=plan,
                        input_size=contender.size,
                        layout=converter.supported()[precision],
                        metadata={},
                        deployment_target="iOS17",
                        path=path,
                    )
                )
                executor = converter.open_executor(path)
                executor.heatmaps(picture)
                loaded[target, dtype, key] = executor, picture
    return loaded


def turns(contenders: Mapping[str, Contender], rounds: int) -> dict[Key, list[float]]:
    """Give the microseconds of each network in every round; all networks take their turn in each."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = executors(contenders, Path(folder))
        found: dict[Key, list[float]] = {key: [] for key in loaded}
        for number in range(rounds):
            progress(f"round {number + 1}/{rounds}")
            for key, (executor, picture) in loaded.items():
                found[key].append(min(once(executor, picture) for _ in range(CALLS)))
    progress("")
    return found


def timed(cases: Sequence[Case], rounds: int) -> Times:
    """Give microseconds of one layer by target, dtype and number of the case."""
    medians = {key: median(times) for key, times in turns(contenders_of(cases), rounds).items()}
    return {
        (target, dtype, number): (medians[target, dtype, case.key] - medians[target, dtype, case.reference_key])
        / case.count
        for number, case in enumerate(cases)
        for target in case.targets
        for dtype in case.dtypes
    }


def once(executor: Any, picture: Any) -> float:
    """Run once; gives microseconds of CPU time."""
    started = time.process_time_ns()
    executor.heatmaps(picture)
    return (time.process_time_ns() - started) / 1e3


def progress(text: str) -> None:
    """Say on stderr what is under way."""
    print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def measure(rounds: int, output: Path | None, only: str) -> None:
    """Measure, write the file, and print each layer beside its fitted price."""
    cases = [case for case in calibration_cases() if only in case.name]
    times = timed(cases, rounds)
    samples = tuple(
        Sample(target=target, dtype=dtype, op=cases[number].ops[0], microseconds=found)
        for (target, dtype, number), found in times.items()
    )
    path = output or cache_path()
    kept = others(path, {sample.op for sample in samples}) if only else ()
    measurements = Measurements(Machine.here(), datetime.now(UTC).date().isoformat(), (*kept, *samples))
    measurements.write(path)
    print_table(cases, times, {name: target_on(name, measurements) for name in RUNTIMES}, "fitted")
    print(f"written: {path}")


def others(path: Path, measured: set[Op]) -> tuple[Sample, ...]:
    """Give what a file of this machine holds of other layers; nothing where there is no file."""
    if not path.exists():
        return ()
    found = Measurements.read(path)
    if found.machine != Machine.here():
        sys.exit(f"error: {path} is of another machine ({found.machine.text}); measure all layers, without --only")
    return tuple(sample for sample in found.samples if sample.op not in measured)


def forms(rounds: int) -> None:
    """Compare forecasts with measurements: layers of other shapes, and the choice between forms of a block."""
    layers, groups = held_out_cases(), form_groups()
    cases = [*layers, *(case for group in groups.values() for case in group)]
    times = timed(cases, rounds)
    targets = {name: target_named(name) for name in RUNTIMES}
    print_table(cases, times, targets, "forecast")
    numbers = {id(case): number for number, case in enumerate(cases)}
    factors, regrets = [], []
    for name, target in targets.items():
        print(f"{name}: {target.provenance}")
        for dtype in PRECISIONS:
            for case in layers:
                factor = target.cost(case.ops, dtype) / times[name, dtype, numbers[id(case)]]
                factors.append(max(factor, 1 / factor))
            for title, group in groups.items():
                found = {case.name: times[name, dtype, numbers[id(case)]] for case in group}
                chosen = min(group, key=lambda case: target.cost(case.ops, dtype)).name
                regrets.append(found[chosen] / min(found.values()))
                print(
                    f"  {dtype} {title}: chooses {chosen}, {regrets[-1]:.2f} times the fastest "
                    f"({min(found, key=lambda form: found[form])}); "
                    f"{max(found.values()) / found[chosen]:.1f} times faster than the slowest"
                )
    print(f"other shapes: at most {max(factors):.2f} times off, median {median(factors):.2f}")
    print(f"forms: the chosen one at most {max(regrets):.2f} times the fastest, median {median(regrets):.2f}")


def print_table(cases: Sequence[Case], times: Times, targets: dict[str, Target], what: str) -> None:
    """Print microseconds per layer, measured and priced."""
    table = Table(box=box.SIMPLE_HEAD, title=f"microseconds per layer: measured ({what})", title_justify="left")
    for column in ("layer", "channels", "size"):
        table.add_column(column)
    columns = [(target, dtype) for target in RUNTIMES for dtype in PRECISIONS]
    for target, dtype in columns:
        table.add_column(f"{target.split('-')[0]} {dtype}", justify="right")
    for number, case in enumerate(cases):
        channels = getattr(case.ops[0], "in_channels", getattr(case.ops[0], "channels", 0))
        cells = [
            f"{found:.1f} ({targets[target].cost(case.ops, dtype):.1f})"
            if (found := times.get((target, dtype, number))) is not None
            else "-"
            for target, dtype in columns
        ]
        table.add_row(case.name, str(channels), f"{case.size[0]}x{case.size[1]}", *cells)
    Console(width=140).print(table)


def main() -> int:
    """Measure what was asked for; gives the exit code."""
    parser = argparse.ArgumentParser(description="Prices of the operators that fusion chooses between.")
    parser.add_argument("--forms", action="store_true", help="compare forecasts with measurements; writes nothing")
    parser.add_argument("--only", default="", help="measure the layers with this in their name; keep the others' times")
    parser.add_argument("--rounds", type=int, default=15, help="turns each executor takes")
    parser.add_argument("--output", type=Path, help="write here instead of into this machine's cache")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.forms:
        forms(options.rounds)
    else:
        measure(options.rounds, options.output, options.only)
    return 0


if __name__ == "__main__":
    sys.exit(main())
