"""The integer layers inside a written ``.pte``, number by number: weights, scales, biases and grids are the plan's."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from converters.executorch.plan import same_grid
from converters.executorch.program import XnnGraph, XnnNode, XnnValue
from lspdmobile.errors import ConversionError

if TYPE_CHECKING:
    from quantization.affine import AffineGrid
    from quantization.integer_layers import IntegerLayer

__all__ = ["check_layers", "layer_faults"]

_TOLERANCE: Final = 1e-6
_ORDERS: Final = {
    "Conv2d": (0, 2, 3, 1),
    "DepthwiseConv2d": (1, 2, 3, 0),
    "ConvTranspose2d": (1, 2, 3, 0),
    "FullyConnected": (0, 1),
}
"""Node kind to the order in which XNNPACK stores PyTorch's weight axes."""


def layer_faults(path: Path, graphs: tuple[XnnGraph, ...], layers: "Mapping[str, IntegerLayer]") -> tuple[str, ...]:
    """Compare every integer layer of a file with the plan's.

    Both are in program order, but branches that lie in several graphs may have changed places: a layer is that node
    which holds its numbers, and only what is left over is taken in order.

    Args:
        path: For messages.
        graphs: Read back from ``path`` with its constants.
        layers: Layer name to its numbers.

    Returns:
        A sentence on each layer of which a number differs.

    Raises:
        ConversionError: The file has another number of layers.
    """
    nodes = [node for graph in graphs for node in graph.nodes if node.filter is not None and node.filter.scales]
    if len(nodes) != len(layers):
        message = f"{path}: holds {len(nodes)} integer layers where the plan has {len(layers)}"
        raise ConversionError(message)
    return tuple(f"{name} has {', '.join(_faults(node, layers[name]))}" for node, name in _left_over(nodes, layers))


def check_layers(path: Path, graphs: tuple[XnnGraph, ...], layers: "Mapping[str, IntegerLayer]") -> None:
    """Compare every integer layer of a file with the plan's.

    Raises:
        ConversionError: A layer is absent, or a number differs.
    """
    if faults := layer_faults(path, graphs, layers):
        more = f"; so have {len(faults) - 1} more of {len(layers)} layers" if len(faults) > 1 else ""
        message = f"{path}: does not hold what the plan says: {faults[0]}{more}"
        raise ConversionError(message)


def _left_over(nodes: list[XnnNode], layers: "Mapping[str, IntegerLayer]") -> list[tuple[XnnNode, str]]:
    """Give the layers whose numbers no node holds, with the nodes that hold no layer's, in program order."""
    free, missed = list(nodes), list[str]()
    for name, layer in layers.items():
        place = next((i for i, node in enumerate(free) if next(_faults(node, layer), None) is None), None)
        if place is None:
            missed.append(name)
        else:
            del free[place]
    return list(zip(free, missed, strict=True))


def _faults(node: XnnNode, layer: "IntegerLayer") -> Iterator[str]:
    if node.filter is None:
        return
    for what, value, grid in (("input", node.input, layer.input), ("result", node.output, layer.output)):
        if grid is not None and not _on(value, grid):
            found = f"scale {value.scale}, zero point {value.zero_point}" if value is not None else "nothing"
            yield f"an {what} of {found}, not {grid.scale:.6g} and {grid.zero_point}".replace("an result", "a result")
    scales = np.array(node.filter.scales)
    if scales.shape != layer.scales.shape:
        yield f"{len(scales)} weight scales, not {len(layer.scales)}"
        return
    off = np.abs(scales / layer.scales - 1)
    if off.max() > _TOLERANCE:
        worst = int(off.argmax())
        yield f"a weight scale of {scales[worst]:.6g}, not {layer.scales[worst]:.6g}, in channel {worst}"
    yield from _weight_faults(node.kind, node.filter, layer.weights)
    yield from _bias_faults(node.bias, layer)


def _weight_faults(kind: str, stored: XnnValue, planned: NDArray[np.int8]) -> Iterator[str]:
    if kind not in _ORDERS:
        yield f"an operator {kind}, whose weights are stored in an order that is not known"
        return
    found, wanted = np.frombuffer(stored.constant, np.int8), planned.transpose(_ORDERS[kind]).ravel()
    if found.shape != wanted.shape:
        yield f"{len(found)} weights, not {len(wanted)}"
    elif differ := int((found != wanted).sum()):
        yield f"{differ} of {len(wanted)} weights that differ"


def _bias_faults(stored: XnnValue | None, layer: "IntegerLayer") -> Iterator[str]:
    """Biases are int32 in steps of input scale times weight scale, rounded."""
    steps = layer.input.scale * layer.scales.astype(np.float64)
    found = np.frombuffer(stored.constant, np.int32) if stored is not None else np.zeros(len(steps), np.int32)
    off = np.abs(found - layer.bias / steps)
    if off.max() > 1 + np.abs(found).max() * 2.0**-22:
        worst = int(off.argmax())
        yield f"a bias of {found[worst] * steps[worst]:.6g}, not {layer.bias[worst]:.6g}, in channel {worst}"


def _on(value: XnnValue | None, grid: "AffineGrid") -> bool:
    if value is None or value.scale is None or value.zero_point is None:
        return False
    return same_grid(grid, value.scale, value.zero_point)
