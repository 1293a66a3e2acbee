"""Seconds and peak memory of every step of an export.

    python benchmarks/export_time.py [--student lspd-s] [--format tflite] [--precision fp32,w8a8] [--json]

The export runs in this process, one thread per runtime, into a temporary folder, on the bundled pictures. A step lasts
from its first report of progress to that of the next. Loading torch is a step of its own; a format's own packages
are loaded by its first emission.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from harness import printed
from lspdmobile.choices import parse_formats, parse_precisions
from lspdmobile.memory import peak_mb, reset_peak


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step: wall time, CPU time of this process, and its largest resident memory meanwhile (MB = 10^6 bytes)."""

    step: str
    seconds: float
    cpu_seconds: float
    peak_mb: float


@dataclass(kw_only=True)
class Clock:
    """A progress callback that keeps the time; the same step named again goes on."""

    steps: list[Step] = field(default_factory=list)
    name: str = ""
    started: float = 0.0
    cpu_started: float = 0.0

    def __call__(self, step: str, *_: int) -> None:
        """Note that a step is under way."""
        if step != self.name:
            self.stop()
            self.name, self.started, self.cpu_started = step, time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """End the step under way."""
        if self.name:
            seconds, cpu = time.perf_counter() - self.started, time.process_time() - self.cpu_started
            step = Step(
                step=self.name, seconds=round(seconds, 2), cpu_seconds=round(cpu, 2), peak_mb=round(peak_mb(), 1)
            )
            self.steps.append(step)
        self.name = ""
        reset_peak()


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Export once and give the result as it is printed with ``--json``."""
    clock, started = Clock(), time.perf_counter()
    clock("load packages")
    import torch

    from lspdmobile.environment import environment
    from lspdmobile.run import ExportRequest, export
    from lspdmobile.student import load_student
    from quantization.methods import parse_methods

    torch.set_num_threads(1)
    clock("load student")
    student = load_student(options.student)
    with tempfile.TemporaryDirectory() as folder:
        request = ExportRequest(
            student=student,
            formats=parse_formats(options.format),
            precisions=parse_precisions(options.precision),
            output_dir=Path(folder) / "run",
            methods=parse_methods(options.methods),
        )
        report = export(request, clock)
    clock.stop()
    return {
        "student": student.name,
        "params": report.student.params,
        "pictures": report.reference.images,
        "steps": [asdict(step) for step in clock.steps],
        "total_cpu_seconds": round(time.process_time(), 2),
        "total_seconds": round(time.perf_counter() - started, 2),
        "peak_mb": max(step.peak_mb for step in clock.steps),
        "peak_is_per_step": reset_peak(),
        "failed": [f"{a.format} {a.precision}" for a in report.artifacts if a.sha256 is None],
        "environment": environment(),
    }


def table_of(found: dict[str, Any]) -> Table:
    """Lay the steps out, the total last."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("step")
    table.add_column("seconds", justify="right")
    table.add_column("CPU seconds", justify="right")
    table.add_column("peak MB" if found["peak_is_per_step"] else "peak MB so far", justify="right")
    for step in found["steps"]:
        table.add_row(step["step"], f"{step['seconds']:.2f}", f"{step['cpu_seconds']:.2f}", f"{step['peak_mb']:.0f}")
    table.add_section()
    totals = (f"{found[key]:.2f}" for key in ("total_seconds", "total_cpu_seconds"))
    table.add_row("total", *totals, f"{found['peak_mb']:.0f}")
    return table


def main() -> int:
    """Measure and print; gives the exit code."""
    parser = argparse.ArgumentParser(description="Seconds and peak memory of every step of an export.")
    parser.add_argument("--student", default="lspd-s", help="bundled name or checkpoint")
    parser.add_argument("--format", default="all", help="comma list, as for lspdmobile export")
    parser.add_argument("--precision", default="fp32,fp16,w8a8", help="comma list, as for lspdmobile export")
    parser.add_argument("--methods", default="default", help="as for lspdmobile export")
    parser.add_argument("--pictures", type=int, default=None, help="judge on so many; default: all")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    found, code = printed(options, measured, table_of)
    if code:
        return code
    if not options.json:
        for failed in found["failed"]:
            print(f"failed: {failed}")
    return 4 if found["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
