"""Our int8 files beside those of each tool's own default path: one network, the same pictures, one table.

Ours come from ``lspdmobile export``; the others from ``tool_defaults.py``. Every file is read back and executed on the
evaluation pictures, and judged as an export judges its own.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from rich import box
from rich.table import Table
from tool_defaults import DEFAULTS

from converters import FORMATS
from harness import printed
from lspdmobile.artifact import size_in_bytes
from lspdmobile.choices import Estimator, Format, Precision
from lspdmobile.data.bundled import bundled_calibration_pictures, bundled_pictures
from lspdmobile.data.views import load_views
from lspdmobile.errors import LspdmobileError
from lspdmobile.measuring import measure, reference_of
from lspdmobile.report.schema import ParityEntry
from lspdmobile.report.tables import MISSING, decibels, megabytes, pixels, points
from lspdmobile.run import ExportRequest, export
from lspdmobile.student import load_student
from quantization.methods import parse_methods

_OURS: Final = {Precision.W8A8: tuple(Format), Precision.W8: (Format.COREML,)}
_FORMATS: Final = {".tflite": Format.TFLITE, ".pte": Format.EXECUTORCH, ".mlpackage": Format.COREML}


def _silent(_: str, __: int, ___: int) -> None:
    """Report no progress."""


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Make and judge every file."""
    student, rows = load_student(options.student), []
    with tempfile.TemporaryDirectory() as folder:
        for precision, formats in _OURS.items():
            request = ExportRequest(
                student=student,
                formats=formats,
                precisions=(precision,),
                output_dir=Path(folder) / precision,
                calibration=options.calib,
                calibration_samples=options.num_calibration_samples,
                data=options.data,
                evaluation_samples=options.num_evaluation_samples,
                methods=parse_methods(options.methods),
                estimator=options.estimator,
            )
            report = export(request, _silent)
            rows += [_row(f"lspdmobile, {a.label}", a.bytes, a.parity) for a in report.artifacts]
        rows += _defaults(options, Path(folder))
    return {
        "student": student.name,
        "calibration_pictures": options.num_calibration_samples,
        "pictures": report.reference.images,
        "metrics": report.reference.metrics,
        "rows": rows,
    }


def _defaults(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    student = load_student(options.student)
    calibration = load_views(
        options.calib or bundled_calibration_pictures(),
        student.contract,
        student.skeleton,
        split="train",
        limit=options.num_calibration_samples,
    ).inputs()
    data = options.data or bundled_pictures()
    views = load_views(data, student.contract, student.skeleton, split="val", limit=options.num_evaluation_samples)
    reference = reference_of(student, views, _silent)
    rows: list[dict[str, Any]] = []
    for number, (name, (suffix, make)) in enumerate(DEFAULTS.items()):
        path = folder / f"{number}{suffix}"
        try:
            make(student.network, calibration, path)
            heatmaps, _ = measure(FORMATS[_FORMATS[suffix]].open_executor(path), views, name, _silent)
        except LspdmobileError as error:
            rows.append({"name": name, "failed": str(error)})
            continue
        rows.append(_row(name, size_in_bytes(path), reference.entry(reference.compared_with(heatmaps))))
    return rows


def _row(name: str, size: int | None, parity: ParityEntry | None) -> dict[str, Any]:
    if parity is None:
        return {"name": name, "failed": "not written"}
    return {
        "name": name,
        "bytes": size,
        "snr_db": parity.heatmap_snr_db,
        "drift_px_p95": parity.drift_px.p95,
        "drop": parity.metric.drop if parity.metric else None,
        "ci95": list(parity.metric.ci95) if parity.metric else None,
    }


def table_of(found: dict[str, Any]) -> Table:
    """Lay the files out, ours first."""
    table = Table(box=box.MARKDOWN)
    table.add_column("made by", no_wrap=True)
    for heading in ("MB", "SNR dB", "drift px p95", "drop in points", "95 %"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in found["rows"]:
        if "failed" in row:
            table.add_row(row["name"], "failed", "", "", "", row["failed"])
            continue
        interval = " to ".join(map(points, row["ci95"])) if row["ci95"] else MISSING
        cells = megabytes(row["bytes"]), decibels(row["snr_db"]), pixels(row["drift_px_p95"]), points(row["drop"])
        table.add_row(row["name"], *cells, interval)
    return table


def main() -> int:
    """Measure and print; gives the exit code."""
    parser = argparse.ArgumentParser(description="Our int8 files beside each tool's default.")
    parser.add_argument("--student", default="lspd-s", help="bundled name or checkpoint")
    parser.add_argument("--calib", type=Path, help="as for lspdmobile export; default: bundled")
    parser.add_argument("--num-calibration-samples", type=int, default=128)
    parser.add_argument("--methods", default="default", help="as for lspdmobile export")
    parser.add_argument("--estimator", type=Estimator, default=Estimator.MIN_MAX, help="as for lspdmobile export")
    parser.add_argument("--data", type=Path, help="as for lspdmobile export; default: bundled")
    parser.add_argument("--num-evaluation-samples", type=int)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return printed(parser.parse_args(), measured, table_of)[1]


if __name__ == "__main__":
    sys.exit(main())
