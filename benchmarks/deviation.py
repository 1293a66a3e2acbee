"""How far a ``w8a8`` file's integers are from its plan's, tensor by tensor in the order they are computed in.

Two numbers per tensor and runtime, root mean squares in steps of the tensor's grid:

* layer: every tensor computed from the file's integers before it (for Core ML: from the plan's), so the difference is
  that operator's own rounding;
* depth: the file and the plan each go their own way from the picture on, so differences add up.

TFLite hands out all tensors of the shipped file. Core ML's program runs in the MIL interpreter in float32. XNNPACK
inside a ``.pte`` hands nothing out: the same quantized network is lowered once more with every integer tensor as a
result.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from rich import box
from rich.table import Table
from torch import nn
from torch.fx.graph import CodeGen

from converters import FORMATS, coreml, tflite
from harness import printed
from lspdmobile.artifact import EmitRequest
from lspdmobile.choices import Format, Precision
from lspdmobile.data.bundled import bundled_calibration_pictures, bundled_pictures
from lspdmobile.data.views import load_views
from lspdmobile.deviation import Deviation, Tally
from lspdmobile.errors import ConversionError
from lspdmobile.fusion import fuse
from lspdmobile.student import load_student
from quantization.calibrate import calibrate
from quantization.graph import activation_grids, quantized_module
from quantization.layerwise import layer_by_layer
from quantization.plan import QuantizationPlan

Array = NDArray[np.float32]
Look = Callable[..., Deviation]
RUNTIMES: Final = ("tflite xnnpack", "tflite built-in", "executorch", "coreml")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A fused student, its plan and the pictures to look at."""

    network: nn.Module
    plan: QuantizationPlan
    pictures: Array
    calibration: Array

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of a picture."""
        return self.pictures.shape[2], self.pictures.shape[3]


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Write the student for every runtime and compare tensors."""
    student = load_student(options.student)
    calibration = load_views(bundled_calibration_pictures(), student.contract, student.skeleton)
    pictures = load_views(bundled_pictures(), student.contract, student.skeleton, limit=options.pictures)
    inputs = calibration.inputs(0, len(calibration))
    network = fuse(student.network, input_size=student.contract.input_size).network
    subject = Subject(
        network=network,
        plan=calibrate(network, inputs, precision=Precision.W8A8),
        pictures=pictures.inputs(0, options.pictures),
        calibration=inputs,
    )
    chosen = options.runtimes.split(",")
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            look = _look(name, subject, Path(folder))
            rows[name] = {"layer": _rows(look(forced=True)), "depth": _rows(look(forced=False))}
    return {"student": options.student, "pictures": len(subject.pictures), "runtimes": rows}


def _look(runtime: str, subject: Subject, folder: Path) -> Look:
    if runtime == "executorch":
        return partial(_executorch, subject, folder / "tapped.pte")
    form = Format.COREML if runtime == "coreml" else Format.TFLITE
    path = _emitted(form, subject, folder / runtime.replace(" ", "_"))
    common = {"network": subject.network, "plan": subject.plan, "pictures": subject.pictures}
    if form is Format.COREML:
        return partial(coreml.deviation, path, **common)
    return partial(tflite.deviation, path, **common, built_in=runtime == "tflite built-in")


def _emitted(form: Format, subject: Subject, stem: Path) -> Path:
    converter = FORMATS[form]
    request = EmitRequest(
        network=subject.network,
        plan=subject.plan,
        input_size=subject.size,
        layout=converter.supported()[Precision.W8A8],
        metadata={},
        deployment_target="iOS17",
        path=stem.with_suffix(converter.SUFFIX),
        calibration=subject.calibration,
    )
    return converter.emit(request).path


def _executorch(subject: Subject, path: Path, *, forced: bool) -> Deviation:
    grids = activation_grids(quantized_module(subject.network, subject.plan, subject.size))
    simulated = layer_by_layer(subject.network, subject.plan, subject.size, grids)
    tallies, maps = {name: Tally() for name in grids}, Tally()
    for picture, (heatmaps, *taps) in zip(
        torch.from_numpy(subject.pictures).split(1), _tapped_run(subject, tuple(grids), path), strict=True
    ):
        found = {
            name: np.rint(value / grid.scale) + grid.zero_point
            for (name, grid), value in zip(grids.items(), taps, strict=True)
        }
        positions, wanted = simulated.run(picture, found if forced else None)
        for name, place in positions.items():
            tallies[name].add(found[name], place.allowing_ties(found[name]) if forced else place.integers)
        maps.add(heatmaps, wanted.numpy())
    return Deviation.of(len(subject.pictures), tallies, maps, ())


def _tapped_run(subject: Subject, names: tuple[str, ...], path: Path) -> Iterator[list[Array]]:
    """Yield heatmaps and the named integer tensors, dequantized, of every picture."""
    from executorch.runtime import Runtime

    from converters.executorch.lowering import lower

    module = quantized_module(subject.network, subject.plan, subject.size)
    graph, dequantize = module.graph, torch.ops.quantized_decomposed.dequantize_per_tensor.default
    output = next(node for node in graph.nodes if node.op == "output")
    taps = []
    for node in [node for node in graph.nodes if node.target is dequantize]:
        quantize = node.all_input_nodes[0]
        if quantize.all_input_nodes[0].name in names and quantize not in [each.args[0] for each in taps]:
            with graph.inserting_before(output):
                taps.append(graph.call_function(dequantize, (quantize, *node.args[1:])))
    order = {tap.args[0].all_input_nodes[0].name: tap for tap in taps}
    output.args = ((output.all_input_nodes[0], *(order[name] for name in names)),)
    graph.set_codegen(CodeGen())
    module.recompile()
    with torch.no_grad():
        exported = torch.export.export(module, (torch.zeros(1, 3, *subject.size),))
    path.write_bytes(lower(exported, {}))
    program = Runtime.get().load_program(path)
    method = program.load_method("forward")
    for picture in torch.from_numpy(subject.pictures).split(1):
        yield [value.numpy().copy() for value in method.execute([picture.contiguous()])]


def _rows(found: Deviation) -> list[dict[str, Any]]:
    if found.faults:
        raise ConversionError("; ".join(found.faults))
    return [asdict(tensor) for tensor in found.tensors]


def table_of(found: dict[str, Any]) -> Table:
    """Lay the tensors out in depth order, one pair of columns for each runtime."""
    runtimes = found["runtimes"]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("tensor")
    for name in runtimes:
        table.add_column(f"{name} layer", justify="right")
        table.add_column("depth", justify="right")
    by_name = {
        runtime: {kind: {row["name"]: row for row in rows} for kind, rows in kinds.items()}
        for runtime, kinds in runtimes.items()
    }
    for tensor in dict.fromkeys(row["name"] for kinds in runtimes.values() for row in kinds["depth"]):
        cells = [by_name[runtime][kind].get(tensor) for runtime in runtimes for kind in ("layer", "depth")]
        table.add_row(tensor, *(f"{cell['rms']:.3f}" if cell else "" for cell in cells))
    for label, key, worst in (("largest", "largest", max), ("least equal", "equal", min)):
        sums = [worst(row[key] for row in runtimes[r][kind]) for r in runtimes for kind in ("layer", "depth")]
        table.add_row(label, *(f"{value:.3f}" for value in sums))
    return table


def main() -> int:
    """Measure and print; gives the exit code."""
    parser = argparse.ArgumentParser(description="w8a8 files beside their plan, tensor by tensor.")
    parser.add_argument("--student", default="lspd-s", help="bundled name or checkpoint")
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--runtimes", default=",".join(RUNTIMES), help="comma list")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return printed(parser.parse_args(), measured, table_of)[1]


if __name__ == "__main__":
    sys.exit(main())
