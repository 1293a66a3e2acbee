"""What ``export --repair`` mends: networks in which one fault was planted that int8 does not stand.

    python benchmarks/repair.py [--cases outlier,shortcut,wide] [--calib PATH] [--data PATH] [--no-exhaustive] [--json]

Each network computes what ``lspd-s`` does (``hostile_networks.py``): one has one loud channel behind its first layer,
one has the shortcut of one re-parameterised multiscale block inside its kernels, one that of two 3x3 convolutions.
Each is exported to every format with ``--methods none``, without and with ``--repair`` (and with equalization too,
where staying in float costs more than the bytes allowed), and all files are executed. Besides, on the network of the
TFLite file in PyTorch: the part that our ranking names first, what the search took, and what it takes to rank every
operator and every tensor on the metric and then keep one after the other in float, as NNCF does for
a target accuracy. Seconds are processor seconds. Exit code 1 says that a figure was missed.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from hostile_networks import OUTLIER_LAYERS, with_outliers, without_shortcuts
from rich import box
from rich.table import Table
from torch import nn
from torch.fx import GraphModule

from harness import printed
from lspdmobile.calibrating import Calibrator
from lspdmobile.choices import Estimator, Format, Precision
from lspdmobile.errors import ConversionError
from lspdmobile.fusion import fuse
from lspdmobile.measuring import reference_of
from lspdmobile.mixed_drops import drops_of
from lspdmobile.parity import Gate
from lspdmobile.picture_sets import pictures_of
from lspdmobile.preparing import prepared
from lspdmobile.repairing import LARGEST_GROWTH, Judging
from lspdmobile.run import ExportRequest, export
from lspdmobile.student import Student, load_student
from quantization.methods import Method
from quantization.mixed import MixedNetwork
from quantization.promotion import promoted
from quantization.sensitivity import Candidate, sensitivity

SPOILED_POINTS: Final = 5.0
MENDED_POINTS: Final = 0.5
GROWTH_PERCENT: Final = 5.0
SCREENED: Final = 8
PAIR: Final = (Format.TFLITE, Precision.W8A8)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A planted fault.

    Attributes:
        fault: In words.
        plant: Takes the fused network, gives the hostile one.
        layers: What the paths of the planted layers begin with.
        methods: Applied in a third export, which has to reach the figures then.
    """

    fault: str
    plant: Callable[[GraphModule], nn.Module]
    layers: tuple[str, ...]
    methods: tuple[Method, ...] = ()


CASES: Final = {
    "outlier": Case(
        fault="a channel 100x as loud behind backbone.stem.conv",
        plant=lambda fused: with_outliers(fused, OUTLIER_LAYERS[:1], factor=100.0),
        layers=OUTLIER_LAYERS[0][:1],
    ),
    "shortcut": Case(
        fault="shortcut in the kernels of stage.blocks.0, gain 64",
        plant=lambda fused: without_shortcuts(fused, gain=64.0, blocks=["stage.blocks.0."]),
        layers=("stage.blocks.0.",),
    ),
    "wide": Case(
        fault="shortcut in the kernels of backbone.levels.0.1, gain 64",
        plant=lambda fused: without_shortcuts(fused, gain=64.0, blocks=["backbone.levels.0.1."]),
        layers=("backbone.levels.0.1.",),
        methods=(Method.EQUALIZATION,),
    ),
}


def _silent(_: str, __: int, ___: int) -> None:
    """Report no progress."""


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every case asked for."""
    torch.set_num_threads(1)
    student = load_student("lspd-s")
    fused = fuse(student.network, input_size=student.contract.input_size).network
    found = {
        name: _case(CASES[name], replace(student, network=CASES[name].plant(fused), sha256=""), options)
        for name in options.cases
    }
    return {"cases": found, "missed": [f"{name}: {fault}" for name, case in found.items() for fault in case["missed"]]}


def _case(case: Case, student: Student, options: argparse.Namespace) -> dict[str, Any]:
    before, _ = _exported(student, options)
    after, repairs = _exported(student, options, repair=True)
    files = {"default": before, "repair": after}
    if case.methods:
        files[f"repair + {' + '.join(case.methods)}"], _ = _exported(
            student, options, repair=True, methods=case.methods
        )
    for way in files.values():
        for label, file in way.items():
            file["growth"] = 100 * (file["bytes"] / before[label]["bytes"] - 1)
    search = _searched(case, student, options)
    missed = _missed(before, list(files.values())[-1], search)
    return {"fault": case.fault, "files": files, "repairs": repairs, **search, "missed": missed}


def _missed(before: dict[str, Any], after: dict[str, Any], search: dict[str, Any]) -> list[str]:
    faults = [f"{label} loses {f['drop']:.2f} points only" for label, f in before.items() if f["drop"] < SPOILED_POINTS]
    faults += [f"{label} still loses {f['drop']:.2f} points" for label, f in after.items() if f["drop"] > MENDED_POINTS]
    faults += [f"{label} grows by {f['growth']:.1f}%" for label, f in after.items() if f["growth"] > GROWTH_PERCENT]
    return faults if search["named"] else [*faults, "the part named first is not the planted one"]


def _request(
    student: Student,
    options: argparse.Namespace,
    folder: Path,
    *,
    methods: tuple[Method, ...] = (),
    repair: bool = False,
) -> ExportRequest:
    return ExportRequest(
        student=student,
        formats=tuple(Format),
        precisions=(Precision.W8A8,),
        output_dir=folder,
        calibration=options.calib,
        calibration_samples=options.num_calibration_samples,
        data=options.data,
        evaluation_samples=options.num_evaluation_samples,
        gate=Gate(max_drop=MENDED_POINTS),
        methods=methods,
        repair=repair,
    )


def _exported(student: Student, options: argparse.Namespace, **more: Any) -> tuple[dict[str, Any], list[Any]]:
    """Export to every format; gives size, drop and drift of each file, and what repairs found."""
    with tempfile.TemporaryDirectory() as folder:
        report = export(_request(student, options, Path(folder) / "run", **more), _silent)
    files: dict[str, Any] = {}
    for a in report.artifacts:
        if a.parity is None or a.parity.metric is None:
            message = f"{a.label} could not be judged on labelled pictures: {'; '.join(a.reasons)}"
            raise ConversionError(message)
        drop, drift = a.parity.metric.drop, a.parity.drift_px.p95
        files[a.label] = {"bytes": a.bytes, "drop": drop, "drift_px_p95": drift, "verdict": a.verdict.value}
    return files, [repair.model_dump(mode="json") for repair in report.repairs]


def _searched(case: Case, student: Student, options: argparse.Namespace) -> dict[str, Any]:
    """Rank and search as ``--repair`` does and as an exhaustive search would, on the TFLite file's network."""
    request = _request(student, options, Path())
    views, calibration = pictures_of(request)
    calibrator = Calibrator(calibration, Estimator.MIN_MAX, _silent)
    source = prepared(request, [PAIR], torch.from_numpy(views.inputs(0, 2)), calibrator, _silent)[PAIR]
    network = MixedNetwork(source.network, source.plan, student.contract.input_size)
    reference = reference_of(student, views, _silent)
    most = int(LARGEST_GROWTH * sum(unit.weights for unit in network.units.values()))
    judging = Judging(network, reference, request.gate, _silent)
    started = time.process_time()
    few = calibration.views.inputs(0, SCREENED)
    ranking = sensitivity(network, few)
    screened = time.process_time() - started
    ours = promoted(
        ranking.candidates,
        judging.outcome,
        extra_bytes=most,
        rank_beside=lambda kept: sensitivity(network, few, kept=kept).candidates,
    )
    first = ranking.candidates[0]
    layers = sorted({network.units[unit].layer or unit for unit in first.units})
    found = {
        "first": f"{first.kind} {first.name} ({', '.join(layers)})",
        "named": any(layer.startswith(case.layers) for layer in layers),
        "cause": first.cause,
        "ours": _summary(ours.kept, network, judging, len(ours.trials), time.process_time() - started),
        "screening_seconds": round(screened, 1),
    }
    if options.exhaustive:
        parts = [each for each in ranking.candidates if each.kind != "block"]
        fresh = Judging(network, reference, request.gate, _silent)
        started = time.process_time()
        drops = drops_of(network, reference, [each.units for each in parts])
        ranked = sorted(zip(parts, drops, strict=True), key=lambda pair: pair[1].drop if pair[1] else 0.0)
        kept, tried = _one_after_the_other([part for part, _ in ranked], fresh)
        seconds = time.process_time() - started
        found["exhaustive"] = _summary(kept, network, fresh, len(parts) + tried, seconds)
    return found


def _one_after_the_other(ranked: Sequence[Candidate], judging: Judging) -> tuple[frozenset[str], int]:
    """Keep parts in float, best first, until the network passes; gives them and how many networks were judged."""
    kept: frozenset[str] = frozenset()
    for tried, part in enumerate(ranked):
        if judging.outcome(kept).passed:
            return kept, tried + 1
        kept |= part.units
    return kept, len(ranked)


def _summary(
    kept: frozenset[str], network: MixedNetwork, judging: Judging, evaluations: int, seconds: float
) -> dict[str, Any]:
    outcome, units = judging.outcome(kept), network.units
    return {
        "kept": sorted(kept),
        "growth": 100 * 3 * sum(units[name].weights for name in kept) / sum(unit.weights for unit in units.values()),
        "drop": outcome.drop,
        "passed": outcome.passed,
        "evaluations": evaluations,
        "seconds": round(seconds, 1),
    }


def table_of(found: dict[str, Any]) -> Table:
    """Lay the files out, and the searches below those of their network."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.title = "\n".join(
        [f"{name}: first named: {case['first']}: {case['cause']}" for name, case in found["cases"].items()]
        + [f"missed: {fault}" for fault in found["missed"]]
    )
    table.add_column("planted")
    table.add_column("what")
    for heading in ("drop in points", "drift p95 px", "grows by %", "operators in float", "evaluations", "seconds"):
        table.add_column(heading, justify="right")
    for case in found["cases"].values():
        for way, files in case["files"].items():
            for label, file in files.items():
                numbers = (f"{file['drop']:.2f}", f"{file['drift_px_p95']:.2f}", f"{file['growth']:.1f}")
                table.add_row(case["fault"], f"{label}, {way}", *numbers, "", "", "")
        for way in ("ours", "exhaustive"):
            if way in case:
                each = case[way]
                numbers = (f"{each['drop']:.2f}", "", f"{each['growth']:.1f}", str(len(each["kept"])))
                spent = (str(each["evaluations"]), f"{each['seconds']:.0f}")
                table.add_row(case["fault"], f"search in PyTorch, {way}", *numbers, *spent)
    return table


def _cases(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in CASES]:
        message = f"unknown case {unknown[0]!r}: choose from {', '.join(CASES)}"
        raise argparse.ArgumentTypeError(message)
    return names


def main() -> int:
    """Measure and print; gives the exit code."""
    parser = argparse.ArgumentParser(description="What export --repair mends.")
    parser.add_argument("--cases", type=_cases, default=list(CASES), help=f"comma list of {', '.join(CASES)}")
    parser.add_argument("--calib", type=Path, help="as for lspdmobile export; default: bundled")
    parser.add_argument("--num-calibration-samples", type=int, default=128)
    parser.add_argument("--data", type=Path, help="labelled set, as for lspdmobile export; default: bundled")
    parser.add_argument("--num-evaluation-samples", type=int)
    parser.add_argument("--no-exhaustive", dest="exhaustive", action="store_false", help="leave that search out")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    found, code = printed(parser.parse_args(), measured, table_of)
    return code or int(bool(found["missed"]))


if __name__ == "__main__":
    sys.exit(main())
