"""Palettes in a written package: how many bits they have, and whether they are the network's weights."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from converters.coreml.grids import given_name
from converters.coreml.mil.constants import Constant
from converters.coreml.mil.package import Operation, Program

__all__ = ["LAYERS", "Palette", "checked_weights", "constant_behind", "layer_name", "palette_faults", "palette_of"]

Numbers = NDArray[Any]

LAYERS: Final = ("conv", "conv_transpose", "linear")
"""Operations that have weights."""
_ROUNDING: Final = 2.0**-10
"""Indices were chosen before the table's entries became float16: of two entries, each by half its last bit."""


@dataclass(frozen=True, kw_only=True)
class Palette:
    """Weights as indices into a table.

    Attributes:
        table: Float ``[..blocks, entries]``: each block of the weight has its own entries.
        shape: Of the weight.
        stored_as: ``palette6`` for 6-bit indices into tables of 64, otherwise what does not go together.
    """

    table: Numbers
    shape: tuple[int, ...]
    stored_as: str

    def blocks(self, weight: Numbers) -> Iterator[tuple[Numbers, Numbers]]:
        """Yield the entries of each block, and the block of an array of the weight's shape."""
        counts = self.table.shape[:-1] or (1,) * weight.ndim
        table = self.table.reshape(*counts, -1)
        for place in np.ndindex(*counts):
            sizes = [size // count for size, count in zip(weight.shape, counts, strict=True)]
            cut = tuple(slice(i * size, (i + 1) * size) for i, size in zip(place, sizes, strict=True))
            yield table[place], weight[cut]


def palette_of(maker: Operation, makers: Mapping[str, Operation]) -> Palette | None:
    """Read the palette an operation unpacks; None where it unpacks none.

    Before iOS 18 indices are packed bytes and ``shape`` is written beside them; since then their dtype has the bits.
    """
    if maker.kind != "constexpr_lut_to_dense":
        return None
    indices, table = (constant_behind(maker.inputs[name][0], makers) for name in ("indices", "lut"))
    if indices is None or table is None or isinstance(table.value, str) or isinstance(indices.value, str):
        return None
    if "shape" not in maker.inputs:
        bits, entries = indices.type.dtype.bits, table.value.shape[-2]
        fits = table.value.shape[-1] == 1 and entries == 2**bits
        stored = f"palette{bits}" if fits else f"{bits}-bit indices into {entries} entries"
        return Palette(table=table.value[..., 0], shape=indices.value.shape, stored_as=stored)
    shape = constant_behind(maker.inputs["shape"][0], makers)
    if shape is None or isinstance(shape.value, str):
        return None
    sizes = tuple(int(size) for size in shape.value)
    entries = int(table.value.size)
    bits = entries.bit_length() - 1
    fits = entries == 2**bits and indices.value.size == -(-prod(sizes) * bits // 8)
    stored = f"palette{bits}" if fits else f"{indices.value.size} bytes of indices into {entries} entries"
    return Palette(table=table.value.reshape(-1), shape=sizes, stored_as=stored)


def palette_faults(palette: Palette, found: Numbers, wanted: Numbers) -> Iterator[str]:
    """Say what is wrong with a layer's palette, from the weights alone; k-means promises both of what is looked at.

    * Every weight took the entry that is nearest to it.
    * The entries suit the weights: their root mean square distance is at most half a step of as many evenly spaced
      entries, which no weight would be farther from.

    Args:
        palette: From the file.
        found: What the file's weights unpack to.
        wanted: The network's weights, of the same shape.
    """
    astray = 0
    for (entries, unpacked), (_, weight) in zip(palette.blocks(found), palette.blocks(wanted), strict=True):
        ordered = np.sort(entries.astype(np.float64))
        numbers, distance = weight.astype(np.float64), np.abs(unpacked.astype(np.float64) - weight)
        above = np.searchsorted(ordered, numbers).clip(1, len(ordered) - 1)
        nearest = np.minimum(np.abs(ordered[above - 1] - numbers), np.abs(ordered[above] - numbers))
        astray += int((distance > nearest + _ROUNDING * np.abs(ordered).max()).sum())
        half_step, off = float(np.ptp(numbers)) / (len(ordered) - 1) / 2, float(np.sqrt(np.square(distance).mean()))
        if off > half_step + _ROUNDING * float(np.abs(numbers).max()):
            yield f"a palette is {off:.2g} from its weights, evenly spaced entries would be within {half_step:.2g}"
            return
    if astray:
        yield f"{astray} of {wanted.size} weights did not take the nearest entry of their palette"


def checked_weights(
    program: Program, wanted: Mapping[str, Numbers], last: str
) -> tuple[dict[str, NDArray[np.float32]], frozenset[str]]:
    """Unpack every layer's weights and hold them to the network's.

    Args:
        program: Read from disk; every layer's weights are palettes.
        wanted: The network's weights by layer.
        last: The layer that gives the heatmaps, whose name in the file is that of the program's output.

    Returns:
        The file's weights by layer, and sentences on what is wrong, each beginning with the layer's name.

    Raises:
        ConversionError: The program holds something that cannot be executed here.
    """
    from converters.coreml.mil.planning import constants_of

    makers = {value.name: operation for operation in program.operations for value in operation.outputs}
    constants = constants_of(program)
    weights: dict[str, NDArray[np.float32]] = {}
    faults: set[str] = set()
    for operation in program.operations:
        bound = operation.inputs["weight"][0] if operation.kind in LAYERS else None
        palette = palette_of(makers[bound], makers) if isinstance(bound, str) and bound in makers else None
        if not isinstance(bound, str) or palette is None:
            continue
        layer, unpacked = layer_name(operation, program, last), constants[bound].value
        if layer not in wanted or isinstance(unpacked, str) or unpacked.shape != wanted[layer].shape:
            faults.add(f"{layer}: no layer of the network has weights {list(palette.shape)} under this name")
            continue
        weights[layer] = unpacked.astype(np.float32)
        faults.update(f"{layer}: {fault}" for fault in palette_faults(palette, weights[layer], wanted[layer]))
    faults.update(f"{layer}: its weights are no palette in the file" for layer in wanted.keys() - weights.keys())
    return weights, frozenset(faults)


def layer_name(operation: Operation, program: Program, last: str) -> str:
    """Give the network's name of the layer that an operation is; ``last`` is that of the one that gives the output."""
    made = operation.outputs[0].name
    return last if made in {value.name for value in program.outputs} else given_name(made)


def constant_behind(bound: str | Constant, makers: Mapping[str, Operation]) -> Constant | None:
    """Give the constant an input is bound to, in place or by name; None for computed values."""
    if isinstance(bound, Constant):
        return bound
    maker = makers.get(bound)
    return constant_behind(maker.inputs["val"][0], makers) if maker is not None and maker.kind == "const" else None
