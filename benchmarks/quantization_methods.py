"""What each quantization method is worth on the bundled student, alone and together, and on networks hard to quantize.

    python benchmarks/quantization_methods.py [--lspet FOLDER] [--pictures 256] [--precision w8a8] [--confirm tflite]

Every row is a network and plan that ``quantization.methods.prepare`` made, run in PyTorch as the plan's files compute
(``quantization.methods.simulated``) over evaluation pictures and compared with the float student: signal to noise of
the heatmaps, 95th percentile of the drift in input pixels and in heatmap cells, points lost of PCK@0.2, processor
seconds the methods took on one thread. The bundled pictures are calibrated on the bundled calibration pictures; a
labelled set given with ``--lspet`` (its ``annotations/`` hold a train and a val file) on 64 pictures of its train file.
The hard networks (``hostile_networks.py``) compute what the student does. ``--confirm`` emits the rows without and with
all methods in a real format and runs the files.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from hostile_networks import RESIDUAL_BLOCKS, with_outliers, without_shortcuts
from rich import box
from rich.table import Table
from torch import nn

from converters import FORMATS
from harness import printed
from lspdmobile.artifact import EmitRequest
from lspdmobile.choices import Format, Precision
from lspdmobile.data.bundled import bundled_calibration_pictures, bundled_pictures
from lspdmobile.data.views import Views, load_views
from lspdmobile.fusion import fuse
from lspdmobile.measuring import Comparison, Reference, measure, reference_of
from lspdmobile.student import load_student
from quantization.calibrate import calibrate
from quantization.methods import DEFAULT_METHODS, Method, Prepared, prepare
from quantization.methods.output_scales import forecast_output
from quantization.methods.simulated import simulated

STUDENT: Final = "lspd-s"
CALIBRATION_PICTURES: Final = 64
OUTLIER_FACTOR: Final = 100.0
SHORTCUT_GAIN: Final = 16.0
E, R, B, T = Method
ALONE: Final[tuple[tuple[Method, ...], ...]] = ((), (E,), (R,), (B,), (T,))
TOGETHER: Final[tuple[tuple[Method, ...], ...]] = ((E, B), (E, R), (E, T), (E, R, B, T))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One prepared network over one set."""

    pictures: str
    network: str
    run_by: str
    methods: str
    snr_db: float
    drift_p95_px: float
    drift_p95_cells: float
    drop_points: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A network over one set of pictures."""

    pictures: str
    network: str
    fused: nn.Module
    reference: Reference
    calibration: Views
    precision: Precision

    def prepared(self, methods: tuple[Method, ...]) -> tuple[Prepared, float]:
        """Apply methods; gives the processor seconds they took, too."""
        inputs = self.calibration.inputs()
        plan = calibrate(self.fused, inputs, precision=self.precision)
        started = time.process_time()
        found = prepare(self.fused, plan, inputs, methods=methods)
        return found, time.process_time() - started

    def row(self, methods: tuple[Method, ...], run: Callable[[Prepared], np.ndarray[Any, Any]], run_by: str) -> Row:
        """Measure one row."""
        found, seconds = self.prepared(methods)
        compared: Comparison = self.reference.compared_with(run(found))
        drift = compared.parity.drift_px.p95
        return Row(
            pictures=self.pictures,
            network=self.network,
            run_by=run_by,
            methods=" + ".join(methods) or "none",
            snr_db=round(compared.parity.heatmap_snr_db, 2),
            drift_p95_px=round(drift, 2),
            drift_p95_cells=round(drift / compared.parity.cell_px, 3),
            drop_points=round(compared.drop.drop, 2) if compared.drop else float("nan"),
            seconds=round(seconds, 1),
        )

    def simulated(self, found: Prepared) -> np.ndarray[Any, Any]:
        """Run a plan's own graph over the evaluation pictures."""
        size = self.reference.student.contract.input_size
        module = simulated(found.network, found.plan, size).module
        inputs = torch.from_numpy(self.reference.views.inputs())
        with torch.no_grad():
            return np.concatenate([module(each[None]).numpy() for each in inputs])

    def executed(self, found: Prepared, form: Format) -> np.ndarray[Any, Any]:
        """Emit a file, read it back and run it over the evaluation pictures."""
        contract, converter = self.reference.student.contract, FORMATS[form]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"network{converter.SUFFIX}"
            request = EmitRequest(
                network=found.network,
                plan=found.plan,
                input_size=contract.input_size,
                layout=converter.supported()[self.precision],
                metadata={},
                deployment_target="iOS17",
                path=path,
                calibration=self.calibration.inputs(),
            )
            converter.emit(request)
            executor = converter.open_executor(path, threads=1)
            return measure(executor, self.reference.views, "", lambda *_: None)[0]


def trials(options: argparse.Namespace) -> Iterator[Trial]:
    """Give the student over each set, and the hard networks over the first."""
    student = load_student(STUDENT)
    fused = fuse(student.network, input_size=student.contract.input_size).network
    sets: list[tuple[str, Path, Path, int | None, int | None]] = [
        ("bundled", bundled_pictures(), bundled_calibration_pictures(), None, None)
    ]
    if options.lspet:
        sets.append(("lspet val", options.lspet, options.lspet, options.pictures, CALIBRATION_PICTURES))
    for name, pictures, calibration, limit, calibrated in sets:
        evaluation = load_views(pictures, student.contract, student.skeleton, split="val", limit=limit)
        reference = reference_of(student, evaluation, lambda *_: None)
        shared = {
            "pictures": name,
            "reference": reference,
            "calibration": load_views(calibration, student.contract, student.skeleton, split="train", limit=calibrated),
            "precision": options.precision,
        }
        yield Trial(network=STUDENT, fused=fused, **shared)
        if name == "bundled":
            outliers = with_outliers(fused, factor=OUTLIER_FACTOR)
            yield Trial(network=f"outlier channels x{OUTLIER_FACTOR:.0f}", fused=outliers, **shared)
            plain = without_shortcuts(fused, gain=SHORTCUT_GAIN, blocks=RESIDUAL_BLOCKS)
            yield Trial(network=f"shortcuts in kernels, gain {SHORTCUT_GAIN:.0f}", fused=plain, **shared)


def rows_of(trial: Trial, confirm: Format | None) -> Iterator[Row]:
    """Measure every row of a trial."""
    together = TOGETHER if trial.network == STUDENT else ()
    for methods in (*ALONE, *together, DEFAULT_METHODS):
        yield trial.row(methods, trial.simulated, "simulation")
    if confirm is not None and trial.network == STUDENT:
        for methods in ((), DEFAULT_METHODS):
            yield trial.row(methods, lambda found: trial.executed(found, confirm), confirm.value)


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every row of every trial."""
    torch.set_num_threads(1)
    rows: list[Row] = []
    outputs: dict[str, Any] = {}
    for trial in trials(options):
        outputs[trial.pictures] = forecast_output(trial.reference.heatmaps).to_dict()
        rows += rows_of(trial, options.confirm)
    return {"precision": options.precision, "rows": [asdict(row) for row in rows], "output_scales": outputs}


def shown(found: dict[str, Any]) -> Table:
    """Give the table that is printed."""
    table = Table(box=box.MARKDOWN, title=f"{found['precision']}; output scales: {found['output_scales']}")
    titles = ("pictures", "network", "run by", "methods", "SNR dB", "drift p95 px", "cells", "drop points", "seconds")
    for index, title in enumerate(titles):
        table.add_column(title, justify="left" if index < 4 else "right", no_wrap=True)
    for row in found["rows"]:
        table.add_row(*(str(value) for value in row.values()))
    return table


def main() -> int:
    """Read options, measure, print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--lspet", type=Path, help="a labelled set to try besides the bundled pictures")
    parser.add_argument("--pictures", type=int, default=256, help="evaluation pictures taken of it")
    parser.add_argument("--precision", type=Precision, default=Precision.W8A8)
    parser.add_argument("--confirm", type=Format, help="a format to emit and run the student's first and last row in")
    parser.add_argument("--json", action="store_true")
    code: int = printed(parser.parse_args(), measured, shown)[1]
    return code


if __name__ == "__main__":
    sys.exit(main())
