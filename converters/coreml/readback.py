"""What a written ``w8a8`` package holds of its plan's grids, layer by layer."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from converters.coreml.grids import given_name, quantize_behind, sources
from converters.coreml.mil.package import Operation, Program
from converters.coreml.palettes import LAYERS, constant_behind
from lspdmobile.errors import ConversionError
from lspdmobile.shortfall import Shortfall

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import GraphModule

    from quantization.affine import AffineGrid

__all__ = ["check_grids"]

_FLOAT16: Final = 1.001 * 2.0**-11
"""Largest relative rounding error of a float16 that is not subnormal, and float32's own."""
_SUBNORMAL: Final = 1.001 * 2.0**-25
"""Largest rounding error of one that is."""
_UNSIGNED: Final = 128
"""Core ML Tools writes a zero point of -128 as one of 0, of unsigned integers."""


def check_grids(
    program: Program, module: "GraphModule", *, planned_name: Callable[[str], str] = str
) -> tuple[Shortfall, ...]:
    """Compare scales and zero points with the plan's: of every int8 activation, and of every layer's weights.

    Args:
        program: Read back from disk.
        module: The quantized module that was converted.
        planned_name: Gives the module's name of a tensor that Core ML Tools was given under another one.

    Returns:
        The layers whose scales float16 rounds by more than its usual half of a last bit.

    Raises:
        ConversionError: A grid is not the plan's; the message names the layer.
    """
    from quantization.graph import activation_grids, weight_scales_by_node

    found = [*_of_activations(program, activation_grids(module), module, planned_name)]
    found += _of_weights(program, weight_scales_by_node(module), planned_name)
    wrong = list(dict.fromkeys(each for each in found if isinstance(each, str)))
    if wrong:
        message = f"{program.path}: {len(wrong)} grids are not the plan's: {'; '.join(wrong[:3])}"
        raise ConversionError(message)
    return tuple(dict.fromkeys(each for each in found if isinstance(each, Shortfall)))


def _of_activations(
    program: Program, planned: "Mapping[str, AffineGrid]", module: "GraphModule", planned_name: Callable[[str], str]
) -> Iterator[str | Shortfall]:
    makers = _makers(program)
    from quantization.graph import moves_of, picture_of

    named = sources(program, picture_of(module), moves_of(module), tuple(planned), planned_name)
    for made, layer in named.items():
        quantize, _ = quantize_behind(makers[made], makers)
        if layer not in planned or quantize is None:
            continue
        shift = _UNSIGNED if quantize.outputs[0].type.dtype.name == "uint8" else 0
        for operation in (quantize, makers[made]):
            scale, zero_point = _grid(operation, makers)
            if (found := int(zero_point[0]) - shift) != planned[layer].zero_point:
                yield f"{layer} has zero point {found}, not {planned[layer].zero_point}"
            yield from _differences(layer, "scale", np.array([planned[layer].scale]), scale)


def _of_weights(
    program: Program, planned: "Mapping[str, Tensor]", planned_name: Callable[[str], str]
) -> Iterator[str | Shortfall]:
    makers = _makers(program)
    for operation in program.operations:
        layer = planned_name(given_name(operation.outputs[0].name)) if operation.outputs else ""
        if operation.kind in LAYERS and layer in planned:
            scale, _ = _grid(makers[str(operation.inputs["weight"][0])], makers)
            yield from _differences(layer, "weight scale", planned[layer].double().numpy(), scale)


def _differences(
    layer: str, what: str, wanted: NDArray[np.float64], found: NDArray[np.float64]
) -> Iterator[str | Shortfall]:
    """Say that one layer's scales are wrong, or list that they are further off than float16 usually is."""
    found = np.broadcast_to(found, wanted.shape)
    off, usual = np.abs(found - wanted), _FLOAT16 * wanted
    worst = int((off / wanted).argmax())
    if (off > np.maximum(usual, _SUBNORMAL)).any():
        yield f"{layer} has {what} {found[worst]:.6g}, not {wanted[worst]:.6g}"
    elif (coarse := off > usual).any():
        where = f" in channel {worst}; {int(coarse.sum())} of {wanted.size} channels differ" if wanted.size > 1 else ""
        reason = "float16 holds numbers below 6.1e-05 in steps of 6e-08"
        yield Shortfall(
            layer=layer, wanted=f"{what} {wanted[worst]:.6g}", found=f"{found[worst]:.6g}{where}", reason=reason
        )


def _makers(program: Program) -> dict[str, Operation]:
    return {value.name: operation for operation in program.operations for value in operation.outputs}


def _grid(operation: Operation, makers: Mapping[str, Operation]) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Give scales and zero points, each one or one for every channel."""
    found = []
    for name in ("scale", "zero_point"):
        bound = operation.inputs.get(name, (None,))[0]
        constant = constant_behind(bound, makers) if bound is not None else None
        plain = constant is not None and not isinstance(constant.value, str)
        found.append(np.ravel(constant.value) if constant is not None and plain else np.zeros(1))
    return found[0].astype(np.float64), found[1]
