"""How much faster int8 files are than fp32 ones on this machine: one picture, one thread, files in turns in one run.

The files are those of ``lspdmobile export``, opened with the runtimes phones ship. CPU time of this process is counted,
so that what else the machine does matters less.
"""

import argparse
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

from rich import box
from rich.table import Table

from converters import FORMATS
from harness import printed
from lspdmobile.choices import Format, Precision
from lspdmobile.data.bundled import bundled_pictures
from lspdmobile.data.views import load_views
from lspdmobile.run import ExportRequest, export
from lspdmobile.student import load_student
from lspdmobile.timing import in_turns

_FORMATS: Final = (Format.TFLITE, Format.EXECUTORCH)
_PRECISIONS: Final = (Precision.FP32, Precision.W8A8)


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Export every student, then time all its files in turns."""
    rows: list[dict[str, Any]] = []
    for name in options.students.split(","):
        student = load_student(name)
        picture = load_views(bundled_pictures(), student.contract, student.skeleton, limit=1).inputs(0, 1)
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            request = ExportRequest(
                student=student,
                formats=_FORMATS,
                precisions=_PRECISIONS,
                output_dir=run,
                evaluation_samples=4,
                methods=(),
            )
            report = export(request, lambda *_: None)
            executors = {
                (a.format, a.precision): FORMATS[a.format].open_executor(run / a.file)
                for a in report.artifacts
                if a.sha256
            }
            runs = {key: partial(executor.heatmaps, picture) for key, executor in executors.items()}
            times = in_turns(runs, rounds=options.rounds, clock=time.process_time)
        for form in _FORMATS:
            slow, fast = (times[form, precision].median for precision in _PRECISIONS)
            rows.append({"student": name, "format": form.value, "fp32_ms": slow, "w8a8_ms": fast, "ratio": slow / fast})
    return {"rounds": options.rounds, "rows": rows}


def table_of(found: dict[str, Any]) -> Table:
    """Lay the ratios out."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("student", "format"):
        table.add_column(heading)
    for heading in ("fp32 ms", "w8a8 ms", "times faster"):
        table.add_column(heading, justify="right")
    for row in found["rows"]:
        numbers = (f"{row['fp32_ms']:.2f}", f"{row['w8a8_ms']:.2f}", f"{row['ratio']:.2f}")
        table.add_row(row["student"], row["format"], *numbers)
    return table


def main() -> int:
    """Measure and print; gives the exit code."""
    parser = argparse.ArgumentParser(description="int8 beside fp32, host CPU, one thread.")
    parser.add_argument("--students", default="lspd-s", help="comma list of bundled names or checkpoints")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return printed(parser.parse_args(), measured, table_of)[1]


if __name__ == "__main__":
    sys.exit(main())
