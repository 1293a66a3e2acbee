"""What each estimator costs in accuracy: drop and drift of w8a8 artifacts calibrated on the same pictures.

    python benchmarks/estimators.py [--student lspd-s] [--format tflite,executorch] [--calib PATH] [--data PATH]
        [--calibration-pictures 128] [--evaluation-pictures N] [--precision w8a8] [--json]

Takes no timing: every row is an ``lspdmobile export`` with another ``--estimator``, into a temporary folder. Drops
are in points of the metric (float student minus artifact), drift is in input pixels.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from harness import printed
from lspdmobile.choices import Estimator, parse_formats, parse_precisions


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Export once for each estimator and give the result as it is printed with ``--json``."""
    from lspdmobile.run import ExportRequest, export
    from lspdmobile.student import load_student

    student, rows = load_student(options.student), []
    for estimator in Estimator:
        with tempfile.TemporaryDirectory() as folder:
            request = ExportRequest(
                student=student,
                formats=parse_formats(options.format),
                precisions=parse_precisions(options.precision),
                output_dir=Path(folder) / "run",
                calibration=options.calib,
                calibration_samples=options.calibration_pictures,
                data=options.data,
                evaluation_samples=options.evaluation_pictures,
                estimator=estimator,
                methods=(),
            )
            report = export(request, lambda *_: None)
        rows += [row for artifact in report.artifacts if (row := _row(estimator, artifact)) is not None]
    entry = report.calibration
    return {
        "student": student.name,
        "calibration_pictures": entry.pictures if entry else 0,
        "pictures": report.reference.images,
        "rows": rows,
    }


def _row(estimator: Estimator, artifact: Any) -> dict[str, Any] | None:
    """Give what is shown of an artifact; None of one that could not be made."""
    parity = artifact.parity
    if parity is None:
        return None
    metric, drift = parity.metric, parity.drift_px
    return {
        "estimator": estimator.value,
        "artifact": artifact.label,
        "snr_db": parity.heatmap_snr_db,
        "drift_mean_px": drift.mean,
        "drift_p95_px": drift.p95,
        "metric": metric.name if metric else "",
        "drop": metric.drop if metric else None,
        "ci95": metric.ci95 if metric else None,
        "verdict": artifact.verdict.value,
    }


def table_of(found: dict[str, Any]) -> Table:
    """Lay the rows out."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.title = (
        f"{found['student']}: calibrated on {found['calibration_pictures']} pictures, judged on {found['pictures']}"
    )
    table.add_column("estimator")
    table.add_column("artifact")
    for heading in ("SNR dB", "drift px mean", "p95", "drop", "95 %"):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    for row in found["rows"]:
        numbers = (row["snr_db"], row["drift_mean_px"], row["drift_p95_px"], row["drop"])
        snr, mean, p95, drop = ("-" if n is None else f"{n:.2f}" for n in numbers)
        interval = "-" if row["ci95"] is None else f"{row['ci95'][0]:.2f} to {row['ci95'][1]:.2f}"
        table.add_row(row["estimator"], row["artifact"], snr, mean, p95, drop, interval, row["verdict"])
    return table


def main() -> int:
    """Measure and print; gives the exit code."""
    parser = argparse.ArgumentParser(description="Drop and drift of w8a8 artifacts by estimator.")
    parser.add_argument("--student", default="lspd-s", help="bundled name or checkpoint")
    parser.add_argument("--format", default="tflite,executorch", help="comma list, as for lspdmobile export")
    parser.add_argument("--precision", default="w8a8", help="comma list, as for lspdmobile export")
    parser.add_argument("--calib", type=Path, help="pictures to calibrate on; default: bundled")
    parser.add_argument("--data", type=Path, help="labelled set to judge on; default: bundled")
    parser.add_argument("--calibration-pictures", type=int, default=128, help="at most so many")
    parser.add_argument("--evaluation-pictures", type=int, help="at most so many; default: all")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return printed(parser.parse_args(), measured, table_of)[1]


if __name__ == "__main__":
    sys.exit(main())
