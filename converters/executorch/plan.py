"""How a plan shows in a written ``.pte``, and the read-back that proves it: nothing is quantized in name only."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from converters.executorch.program import XnnGraph, XnnNode, XnnValue, forward_plan, xnnpack_graphs
from lspdmobile.choices import Precision
from lspdmobile.errors import ConversionError
from lspdmobile.shortfall import Shortfall
from quantization.affine import AffineGrid

__all__ = ["activation_grids", "before_decoding", "check_grids", "check_precision", "float_operators", "same_grid"]

_FLOAT: Final = ("float32",) * 3
_SCALE_TOLERANCE: Final = 1e-6
_CONVERT: Final = "Convert"
_NEVER_INTEGER: Final = "StaticResizeBilinear2D"


def activation_grids(graphs: tuple[XnnGraph, ...]) -> frozenset[tuple[float, int]]:
    """Give scale and zero point of every int8 activation in the XNNPACK graphs of a file."""
    return frozenset(
        (value.scale, value.zero_point)
        for graph in graphs
        for value in graph.values
        if value.scale is not None and value.zero_point is not None and not value.constant_bytes
    )


def check_precision(
    path: Path,
    program: Any,
    precision: Precision,
    *,
    float_layers: int = 0,
    constants: Mapping[str, bytes] | None = None,
) -> tuple[XnnGraph, ...]:
    """Compare what a file holds with what was asked for.

    Args:
        path: For messages.
        program: Read back from ``path``.
        precision: ``fp32``: every layer with weights in XNNPACK is float32 throughout. ``w8a8``: every layer with
            weights is in XNNPACK, there is at least one, and its input, weights and output are int8.
        float_layers: How many layers with weights the plan keeps in float; exactly as many have to be.
        constants: Read back with it, if the graphs are to hold the numbers.

    Returns:
        The file's XNNPACK graphs.

    Raises:
        ConversionError: The file holds something else.
    """
    graphs = tuple(xnnpack_graphs(program, path, constants))
    integer = precision is Precision.W8A8
    wanted = ("int8" if integer else "float32",) * 3
    layers = [_types(node) for graph in graphs for node in graph.nodes if node.filter is not None]
    floats = [types for types in layers if integer and types == _FLOAT]
    wrong = {" x ".join(types[:2]) + " to " + types[2] for types in layers if types != wanted}
    if len(floats) == float_layers:
        wrong.discard(" x ".join(_FLOAT[:2]) + " to " + _FLOAT[2])
    if integer:
        wrong |= {op.name for op in forward_plan(program).operators if "conv" in op.name or "mm" in op.name}
    if wrong or (integer and len(layers) == len(floats)) or len(floats) < float_layers:
        found = ", ".join(sorted(wrong)) or "no layer with weights"
        message = f"{path}: {precision} was asked for, but the file computes {found}"
        raise ConversionError(message)
    return graphs


def check_grids(path: Path, graphs: tuple[XnnGraph, ...], grids: Mapping[str, AffineGrid]) -> None:
    """Find every activation grid of the quantized network in the file, and nothing else.

    Args:
        path: For messages.
        graphs: Read back from ``path``.
        grids: Tensor name to its grid.

    Raises:
        ConversionError: A grid is not in the file, or the file has one that nobody asked for.
    """
    written = activation_grids(graphs)
    lost = [name for name, grid in grids.items() if not any(same_grid(grid, *have) for have in written)]
    extra = [have for have in written if not any(same_grid(grid, *have) for grid in grids.values())]
    if lost or extra:
        message = (
            f"{path}: the calibrated ranges did not arrive: {len(lost)} of {len(grids)} are not in the file"
            f"{' (' + ', '.join(lost[:3]) + ')' if lost else ''}, {len(extra)} in it are not the plan's"
        )
        raise ConversionError(message)


def float_operators(graphs: tuple[XnnGraph, ...], grids: Mapping[str, AffineGrid], kept: int) -> Iterator[Shortfall]:
    """List the operators without weights that XNNPACK computes in float inside an integer network.

    The file names no tensors: an operator is called after the int8 tensor that its result becomes, or else by its kind.

    Args:
        graphs: Read back from a ``w8a8`` file.
        grids: Tensor name to its grid.
        kept: How many layers with weights the plan keeps in float; what it keeps is honoured, so one that keeps any
            has only resizing listed, which is never integer.
    """
    for graph in graphs:
        becomes = {id(node.input): node.output for node in graph.nodes if node.kind == _CONVERT}
        for node in graph.nodes:
            if node.kind == _CONVERT or node.filter is not None or node.output is None:
                continue
            if node.output.dtype == "float32" and (not kept or node.kind == _NEVER_INTEGER):
                named = _named(becomes.get(id(node.output)), grids)
                yield Shortfall(
                    layer=named or node.kind,
                    wanted="int8",
                    found="float32",
                    reason=f"the XNNPACK quantizer leaves {node.kind} in float",
                )


def before_decoding(graphs: tuple[XnnGraph, ...]) -> tuple[XnnGraph, ...]:
    """Leave out what follows the last layer with weights: a file that decodes computes its keypoints in float."""
    ends = [max((i for i, node in enumerate(g.nodes) if node.filter is not None), default=-1) for g in graphs]
    last = max((index for index, end in enumerate(ends) if end >= 0), default=-1)
    return tuple(
        replace(g, nodes=g.nodes[: ends[i] + 1] if i == last else g.nodes) for i, g in enumerate(graphs[: last + 1])
    )


def _named(value: XnnValue | None, grids: Mapping[str, AffineGrid]) -> str:
    if value is None or value.scale is None or value.zero_point is None:
        return ""
    return next((name for name, grid in grids.items() if same_grid(grid, value.scale, value.zero_point)), "")


def _types(node: XnnNode) -> tuple[str, str, str]:
    """Give the dtypes of input, weights and output."""
    source, weights, result = (value.dtype if value else "none" for value in (node.input, node.filter, node.output))
    return source, weights, result


def same_grid(grid: AffineGrid, scale: float, zero_point: int) -> bool:
    """Tell whether a grid has this scale, but for its last bits, and this zero point."""
    return abs(grid.scale - scale) <= _SCALE_TOLERANCE * grid.scale and grid.zero_point == zero_point
