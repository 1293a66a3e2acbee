"""Time and memory of the MIL executor beside eager PyTorch, on the same network and the same pictures.

    python benchmarks/mil_executor.py [--student lspd-s] [--pictures 32] [--rounds 20] [--json]

The student is fused and exported to Core ML in float32, float16 and w8a8. Eager PyTorch runs the fused float network,
executor and PyTorch take the pictures eight at a time, in turns, with one thread. Memory is how much each grows a
process of its own in which all packages are loaded: network or program, pictures and what a run needs, at the peak.
"""

import argparse
import copy
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.table import Table

from harness import printed
from lspdmobile.choices import Format, Precision
from lspdmobile.memory import peak_mb, reset_peak
from lspdmobile.timing import in_turns

if TYPE_CHECKING:
    from torch import nn

AT_ONCE: Final = 8
EAGER: Final = "eager PyTorch"
PRECISIONS: Final = (Precision.FP32, Precision.FP16, Precision.W8A8)


def fused(student: str) -> "nn.Module":
    """Load and fuse a student."""
    from lspdmobile.fusion import fuse
    from lspdmobile.student import load_student

    loaded = load_student(student)
    return fuse(loaded.network, input_size=loaded.contract.input_size).network


def eager(network: "nn.Module", size: tuple[int, int], pictures: int) -> Callable[[], object]:
    """Give a run of a network over the pictures."""
    import torch

    inputs = torch.rand(pictures, 3, *size, generator=torch.Generator().manual_seed(0))

    def run() -> object:
        with torch.inference_mode():
            return [network(inputs[i : i + AT_ONCE]) for i in range(0, pictures, AT_ONCE)]

    return run


def executor(package: Path, pictures: int) -> Callable[[], object]:
    """Load a package; gives a run over the pictures."""
    import numpy as np

    from converters.coreml.mil import MilProgram

    program = MilProgram.load(package)
    (picture,) = program.inputs
    inputs = np.random.default_rng(0).random((pictures, *picture.type.shape[1:]), np.float32)
    return lambda: program.predict_batch({picture.name: inputs}, at_once=AT_ONCE)


def package_of(precision: str, run: Path) -> Path:
    """Find the package of a run folder."""
    return next(run.glob(f"*_{Precision(precision).file_suffix}.mlpackage"))


def grown_mb(name: str, options: argparse.Namespace, run: Path) -> float:
    """Give the memory by which a contender grows a process of its own."""
    command = [sys.executable, __file__, "--student", options.student, "--pictures", str(options.pictures)]
    # Freed memory goes back at once, so that what was freed before does not hide what is taken later.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command += ["--grown-by", name, "--run", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout)


def grow(name: str, options: argparse.Namespace) -> float:
    """Load and run one contender in this process, all packages loaded before; gives the growth in MB."""
    import torch

    from converters.coreml.mil.program import MilProgram

    torch.set_num_threads(1)
    network, package = fused(options.student), package_of(Precision.FP32, options.run)
    size = tuple(MilProgram.load(package).inputs[0].type.shape[2:])
    eager(network, size, 1)()
    reset_peak()
    before = peak_mb()
    if name == EAGER:
        eager(copy.deepcopy(network), size, options.pictures)()
    else:
        executor(package_of(name, options.run), options.pictures)()
    return peak_mb() - before


def measured(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Export, load, time in turns and weigh; gives the rows as they are printed with ``--json``."""
    import torch

    from lspdmobile.run import ExportRequest, export
    from lspdmobile.student import load_student

    torch.set_num_threads(1)
    names = [EAGER, *(p.value for p in PRECISIONS)]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        student = load_student(options.student)
        export(
            ExportRequest(
                student=student,
                formats=(Format.COREML,),
                precisions=PRECISIONS,
                output_dir=run,
                evaluation_samples=8,
                methods=(),
            ),
            lambda *_: None,
        )
        contenders = {p.value: executor(package_of(p, run), options.pictures) for p in PRECISIONS}
        contenders[EAGER] = eager(fused(options.student), student.contract.input_size, options.pictures)
        times = {name: t.median for name, t in in_turns(contenders, rounds=options.rounds, warm_up=2).items()}
        memory = {n: grown_mb(n, options, run) for n in names}
    return [
        {
            "contender": n,
            "ms_per_picture": round(times[n] / options.pictures, 3),
            "time_ratio": round(times[n] / times[EAGER], 2),
            "grown_mb": round(memory[n], 1),
            "memory_ratio": round(memory[n] / memory[EAGER], 2),
        }
        for n in names
    ]


def table_of(rows: list[dict[str, Any]]) -> Table:
    """Lay the rows out."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("runs")
    for column in ("ms per picture", "time ratio", "memory MB", "memory ratio"):
        table.add_column(column, justify="right")
    for row in rows:
        what = row["contender"] if row["contender"] == EAGER else f"MIL executor, {row['contender']}"
        times = f"{row['ms_per_picture']:.2f}", f"{row['time_ratio']:.2f}"
        table.add_row(what, *times, f"{row['grown_mb']:.0f}", f"{row['memory_ratio']:.2f}")
    return table


def main() -> int:
    """Measure and print; gives the exit code."""
    parser = argparse.ArgumentParser(description="Time and memory of the MIL executor beside eager PyTorch.")
    parser.add_argument("--student", default="lspd-s", help="bundled name or checkpoint")
    parser.add_argument("--pictures", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--grown-by", default="", help=argparse.SUPPRESS)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.grown_by:
        print(grow(options.grown_by, options))
        return 0
    return printed(options, measured, table_of)[1]


if __name__ == "__main__":
    sys.exit(main())
