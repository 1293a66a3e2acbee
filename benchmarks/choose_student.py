"""Candidates for lspd-s side by side: accuracy after a short equal schedule, training speed, latency of the artifacts.

    python benchmarks/choose_student.py --data lspet/ [--epochs 4] [--size 128] [-o runs/choose] [--json]

Every candidate is trained by configs/lspd-s.toml with the schedule cut short and without rendered figures, scored on
the val labels, exported, and its artifacts are timed in turns, one thread each, so that a slow moment of the machine
meets all of them. What is in the output folder already is not done again: an interrupted comparison goes on where it
stopped.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich import box
from rich.table import Table

from harness import printed
from lspdmobile.choices import parse_formats, parse_precisions
from lspdmobile.timing import in_turns

ROOT: Final = Path(__file__).parent.parent
ROUNDS: Final = 60
_SHALLOW: Final = {"pyramid_channels": [16, 32, 64, 96], "pyramid_blocks": [1, 3, 4]}
# Fields of LspdConfig that differ from the preset lspd-s.
CANDIDATES: Final[dict[str, dict[str, Any]]] = {
    "lspd-s": {},
    "four levels": {**_SHALLOW},
    "four levels at stride 8": {**_SHALLOW, "detail": 0},
    "four wide levels": {"pyramid_channels": [24, 32, 64, 128], "pyramid_blocks": [1, 2, 2]},
    "one multiscale block": {"blocks": 1},
    "MobileNetV1 of width 0.75": {"trunk": "mobilenet", "width": 0.75, "detail": 0},
}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A trained and exported candidate; the accuracies are fractions of the val joints."""

    name: str
    params: int
    macs: int
    pictures_per_second: float
    accuracy: dict[str, float]
    artifacts: dict[str, Path]


def made(name: str, folder: Path, options: argparse.Namespace) -> Candidate:
    """Train and export one candidate, or read what an earlier start left."""
    from converters import FORMATS
    from lspdmobile.fusion import cost_of
    from lspdmobile.run import ExportRequest, export
    from lspdmobile.student import load_student
    from lspdmobile.train.config import TrainConfig, read_config
    from lspdmobile.train.job import run_job
    from lspdmobile.train.loop import StepReport

    recipe = read_config(ROOT / "configs" / "lspd-s.toml").model_dump()
    phases = [{"size": options.size, "epochs": options.epochs}]
    data = {**recipe["data"], "rendered": 0, "rendered_val": 0}
    config = TrainConfig.model_validate({**recipe, "network": CANDIDATES[name], "phases": phases, "data": data})
    if not CANDIDATES[name].get("detail", 1):
        # As wide in the picture as the others' targets.
        config = config.model_copy(update={"sigma": config.sigma / 2})
    speed, weights = folder / "pictures_per_second", folder / "lspd-s.safetensors"
    if not weights.is_file():

        def on_step(report: StepReport) -> None:
            speed.write_text(f"{report.pictures_per_second}\n", encoding="utf-8")

        run_job(config, data=options.data, folder=folder, device="cpu", progress=lambda *_: None, on_step=on_step)
    student = load_student(str(weights))
    run, formats, precisions = folder / "run", parse_formats("tflite,executorch"), parse_precisions("fp32,w8a8")
    if not run.is_dir():
        request = ExportRequest(student=student, formats=formats, precisions=precisions, output_dir=run, methods=())
        export(request, lambda *_: None)
    cost = cost_of(student.network, student.config.input_size)
    return Candidate(
        name=name,
        params=cost.params,
        macs=cost.macs,
        pictures_per_second=float(speed.read_text(encoding="utf-8")),
        accuracy=student.metrics["val"],
        artifacts={
            f"{form} {precision}": run / f"{student.name}_{precision.file_suffix}{FORMATS[form].SUFFIX}"
            for form in formats
            for precision in precisions
        },
    )


def latencies(candidates: list[Candidate]) -> dict[str, dict[str, float]]:
    """Give the median milliseconds of every artifact, taken in turns."""
    import numpy as np

    from lspdmobile.predictor import Predictor, open_predictor

    def once(predictor: Predictor) -> Callable[[], object]:
        inputs = np.zeros((1, 3, *predictor.contract.input_size), np.float32)
        return lambda: predictor.heatmaps(inputs)

    opened = {
        (c.name, kind): once(open_predictor(str(path), threads=1))
        for c in candidates
        for kind, path in c.artifacts.items()
    }
    times = {name: timing.median for name, timing in in_turns(opened, rounds=ROUNDS).items()}
    return {c.name: {kind: times[c.name, kind] for kind in c.artifacts} for c in candidates}


def measured(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Make, score and time every candidate; gives the rows as they are printed with ``--json``."""
    names = options.candidates.split(",") if options.candidates else list(CANDIDATES)
    candidates = [made(n, options.output / n.replace(" ", "_"), options) for n in names]
    times = latencies(candidates)
    first = times[candidates[0].name]
    return [
        {
            "candidate": c.name,
            "params": c.params,
            "macs": c.macs,
            "pictures_per_second": round(c.pictures_per_second, 1),
            **{key: round(c.accuracy[key], 4) for key in ("pck@0.2", "pckh@0.5")},
            "latency_ms": {kind: round(ms, 3) for kind, ms in times[c.name].items()},
            "latency_ratio": {kind: round(ms / first[kind], 2) for kind, ms in times[c.name].items()},
        }
        for c in candidates
    ]


def table_of(rows: list[dict[str, Any]]) -> Table:
    """Lay the rows out; latencies as ratios to the first candidate's."""
    kinds = list(rows[0]["latency_ratio"])
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("candidate")
    for column in ("params", "MMACs", "train pictures/s", "PCK@0.2", "PCKh@0.5", *kinds):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row["candidate"],
            f"{row['params']:,}",
            f"{row['macs'] / 1e6:.0f}",
            f"{row['pictures_per_second']:.0f}",
            f"{row['pck@0.2']:.3f}",
            f"{row['pckh@0.5']:.3f}",
            *(f"{row['latency_ratio'][kind]:.2f}" for kind in kinds),
        )
    return table


def main() -> int:
    """Compare and print; gives the exit code."""
    parser = argparse.ArgumentParser(description="Candidates for lspd-s side by side.")
    parser.add_argument("--data", type=Path, required=True, help="folder that configs/lspd-s.toml trains on")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--size", type=int, default=128, help="rows and columns of the training pictures")
    parser.add_argument("--candidates", default="", help="comma list of names; default: all")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/choose"))
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    return printed(options, measured, table_of)[1]


if __name__ == "__main__":
    sys.exit(main())
