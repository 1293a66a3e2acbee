"""What distillation is worth: the same network trained with and without, several seeds, equal steps and pictures.

    python benchmarks/distillation.py --data lspet/ [--arms lspd,lspd-chain] [--seeds 3] [-o runs/distillation] [--json]

Runs every arm of a file (benchmarks/distillation.toml; its core arms unless some are named) with every seed, all arms
of a seed before the next one, and prints means, spreads and differences between runs of equal seed. Each run has one
thread; ``--workers`` run side by side, which is faster than several threads each. Killed at any moment, the same
command goes on where it stopped; ``--table`` prints what there is so far and trains nothing. The output folder holds
results.jsonl (a line a run), curves.png and the runs.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from benchmarks.trials.arms import Arm, read_arms
from benchmarks.trials.curves import draw_curves
from benchmarks.trials.runs import read_results, run_once
from benchmarks.trials.table import rows_of, tables_of
from harness import printed
from lspdmobile.errors import BadInputError, LspdmobileError

ROOT: Final = Path(__file__).parent.parent
FILE: Final = Path(__file__).with_suffix(".toml")
_WORKER: Final = "_LSPDMOBILE_RUN"


def chosen(options: argparse.Namespace) -> list[Arm]:
    """Give the arms asked for, with all arms they are compared with.

    Raises:
        BadInputError: One that is named does not exist.
    """
    changes: dict[str, Any] = {"data": {"train_pictures": options.pictures}} if options.pictures else {}
    if options.epochs:
        changes["phases"] = [{"size": options.size, "epochs": options.epochs}]
    arms = read_arms(options.file, changes)
    names = options.arms.split(",") if options.arms else [name for name, arm in arms.items() if arm.core]
    unknown = [name for name in names if name not in arms]
    if unknown:
        message = f"no such arm: {', '.join(unknown)}; choose from {', '.join(arms)}"
        raise BadInputError(message)
    twins = {arms[name].against for name in names}
    return [arm for name, arm in arms.items() if name in names or name in twins]


def measured(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run what is missing, draw the curves, and give the rows of the table."""
    arms, seeds = chosen(options), range(options.seeds)
    options.output.mkdir(parents=True, exist_ok=True)
    if not options.table:
        _run_all([(arm, seed) for seed in seeds for arm in arms], options)
    results = read_results(options.output)
    found = {arm.name: [results[arm.run_name(seed)] for seed in seeds if arm.run_name(seed) in results] for arm in arms}
    draw_curves(found, options.output / "curves.png")
    return rows_of(arms, results, seeds)


def _run_all(runs: Sequence[tuple[Arm, int]], options: argparse.Namespace) -> None:
    done = read_results(options.output)
    missing = [(arm, seed) for arm, seed in runs if arm.run_name(seed) not in done]
    with ThreadPoolExecutor(options.workers) as pool:
        failed = [name for name in pool.map(lambda run: _in_a_process(*run, options), missing) if name]
    if failed:
        message = f"{len(failed)} runs failed: {', '.join(failed)}; what they said is above"
        raise BadInputError(message)


def _in_a_process(arm: Arm, seed: int, options: argparse.Namespace) -> str:
    """Do one run in a process of one thread; gives its name where that failed."""
    command = [sys.executable, __file__, "--data", str(options.data), "-o", str(options.output)]
    command += ["--file", str(options.file), "--epochs", str(options.epochs), "--size", str(options.size)]
    command += ["--pictures", str(options.pictures), "--arms", arm.name]
    environment = {**os.environ, _WORKER: str(seed), "OMP_NUM_THREADS": "1"}
    code = subprocess.run(command, env=environment, check=False).returncode
    return f"{arm.name} seed {seed}" if code else ""


def _worker(options: argparse.Namespace, seed: int) -> int:
    import torch

    torch.set_num_threads(1)
    try:
        arm = next(arm for arm in chosen(options) if arm.name == options.arms)
        result = run_once(arm, seed, data=options.data, folder=options.output)
    except LspdmobileError as error:
        print(f"error: {options.arms} seed {seed}: {error}", file=sys.stderr)
        return error.exit_code
    if result is not None:
        told = ", ".join(f"{key} {value:.4f}" for key, value in result.metrics.items())
        print(f"{options.arms} seed {seed}: {told}; {result.seconds / 60:.1f} min", file=sys.stderr, flush=True)
    return 0


def main() -> int:
    """Run, compare and print; gives the exit code."""
    parser = argparse.ArgumentParser(description="What distillation is worth.")
    parser.add_argument("--data", type=Path, required=True, help="folder that the arms' label files are relative to")
    parser.add_argument("--file", type=Path, default=FILE, help="the arms")
    parser.add_argument("--arms", default="", help="comma list of names; default: the core arms")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, from 0")
    parser.add_argument("--workers", type=int, default=2, help="runs side by side, one thread each")
    parser.add_argument("--epochs", type=int, default=0, help="instead of the file's schedule")
    parser.add_argument("--size", type=int, default=128, help="pixels, with --epochs")
    parser.add_argument("--pictures", type=int, default=0, help="instead of the file's number of train pictures")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/distillation"))
    parser.add_argument("--table", action="store_true", help="print what there is, train nothing")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args()
    if _WORKER in os.environ:
        return _worker(options, int(os.environ[_WORKER]))
    return printed(options, measured, tables_of)[1]


if __name__ == "__main__":
    sys.exit(main())
