"""The table of operations that the MIL executor implements, made from its registry.

``python -m converters.coreml.mil.table docs/mil_operations.md`` writes it.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from converters.coreml.mil.ops_constexpr import UNPACKERS
from converters.coreml.mil.planning import PLANNERS

__all__ = ["NEWER", "NOTES", "REFUSED", "operations_table"]

NEWER: Final[Mapping[str, str]] = {
    "constexpr_affine_dequantize": "iOS16",
    "constexpr_blockwise_shift_scale": "iOS18",
    "constexpr_cast": "iOS16",
    "constexpr_lut_to_dense": "iOS16",
    "constexpr_lut_to_sparse": "iOS18",
    "constexpr_sparse_blockwise_shift_scale": "iOS18",
    "constexpr_sparse_to_dense": "iOS16",
    "dequantize": "iOS17",
    "fill_like": "iOS16",
    "pixel_unshuffle": "iOS16",
    "quantize": "iOS17",
    "reshape_like": "iOS16",
    "resize": "iOS17",
    "scaled_dot_product_attention": "iOS18",
    "slice_update": "iOS18",
}
"""First opset of the operations that are not in the oldest, iOS15."""

_INDICES: Final = "An index out of range stops the program; negative ones count from the end before iOS17 only."
_SCATTER: Final = f"{_INDICES} Refused: an unstated mode, several updates of a cell in mode update, div of integers."
_FLOATS: Final = "Integers are refused."

NOTES: Final[Mapping[str, str]] = {
    "affine": "Refused: `align_corners` false, outputs of one row or column.",
    "argsort": "Equal values keep their order.",
    "avg_pool": "Refused: `ceil_mode` with `same` or with pads that differ before and after.",
    "constexpr_cast": "To float32 only, as in the reference.",
    "conv": "1, 2 and 3 axes; weights may be computed.",
    "conv_transpose": "1, 2 and 3 axes; the exact gradient of a convolution, also for `same` and stated output shapes.",
    "crop_resize": (
        "Refused: sampling modes `DEFAULT` and `UNALIGN_CORNERS`, boxes by centre and size, boxes shorter than 1 with "
        "`OFFSET_CORNERS`, boxes beyond the picture before iOS16."
    ),
    "depth_to_space": "TensorFlow's order of cells.",
    "einsum": "`nchw,nwhu->nchu` and `chw,whr->chr` in any letters, as in the reference.",
    "exp2": _FLOATS,
    "gather": f"{_INDICES} Refused: more batch axes than the axis.",
    "gather_along_axis": _INDICES,
    "gather_nd": _INDICES,
    "l2_pool": "Refused: `ceil_mode`, three axes.",
    "local_response_norm": "Refused: even sizes.",
    "matmul": "Refused: a vector that is to be transposed.",
    "max_pool": "Refused: `ceil_mode` with `same` or with pads that differ before and after.",
    "mod": "Takes the sign of the divisor, integers too.",
    "one_hot": "An index out of range stops the program.",
    "pad": "Amounts may be computed. A reflection of more rows than there are stops the program.",
    "pow": "A negative power of integers stops the program.",
    "quantize": "Refused: scales that are not positive.",
    "real_div": _FLOATS,
    "resample": "Refused: `align_corners` false with `unnormalized`. Nearest: half way, the even cell.",
    "reshape": "The shape may be computed.",
    "resize": (
        "The shape may be computed. `NEAREST_NEIGHBOR` refuses positions half way between two cells and, with "
        "`DEFAULT`, all but whole multiples. Refused: `LINEAR` of integers."
    ),
    "resize_nearest_neighbor": "Refused: all but whole multiples.",
    "reverse_sequence": "Refused: one axis that is both the sequence and the batch.",
    "round": "Half way, to the even number.",
    "scatter": _SCATTER,
    "scatter_along_axis": _SCATTER,
    "scatter_nd": _SCATTER,
    "slice_by_index": "As NumPy, negative steps too; ends may be computed.",
    "slice_update": "As NumPy, negative steps too; ends may be computed.",
    "space_to_batch": "TensorFlow's order of cells.",
    "batch_to_space": "TensorFlow's order of cells.",
    "space_to_depth": "TensorFlow's order of cells.",
    "topk": "Always sorted; equal values keep their order.",
    "upsample_bilinear": "Refused: `align_corners` together with `half_pixel_centers`.",
    "upsample_nearest_neighbor": "Refused: all but whole factors.",
}
"""What else is to be known of an operation, above all what it refuses."""

REFUSED: Final[Mapping[str, tuple[str, ...]]] = {
    "control flow": ("cond", "while_loop"),
    "lists": ("list_gather", "list_length", "list_read", "list_scatter", "list_write", "make_list"),
    "random numbers": ("random_bernoulli", "random_categorical", "random_normal", "random_uniform"),
    "recurrence": ("gru", "lstm", "rnn"),
    "states": ("read_state",),
    "others": ("classify", "conv_quantized", "non_maximum_suppression"),
}
"""Core operations that are not implemented, by theme."""

_HEAD: Final = """# Operations of the MIL executor

<!-- Written by `python -m converters.coreml.mil.table docs/mil_operations.md`; change that module instead. -->

What `converters.coreml.mil` runs of Core ML's ML Programs. An operation's attributes are all implemented but for what
the notes say; what is not is refused by name when a program is loaded, or stops it where only its values show it.

| operation | since | notes |
|---|---|---|
"""


def operations_table() -> str:
    """Give the documentation's page."""
    rows = [_row(name) for name in sorted((*PLANNERS, *UNPACKERS))]
    refused = [f"- {theme}: {', '.join(f'`{kind}`' for kind in kinds)}" for theme, kinds in REFUSED.items()]
    lines = [*rows, "", "Refused are:", "", *refused, "- custom operations, by their own names"]
    return _HEAD + "\n".join(lines) + "\n"


def _row(name: str) -> str:
    cells = (f"`{name}`", NEWER.get(name, "iOS15"), NOTES.get(name, ""))
    return "".join(f"| {cell} " if cell else "| " for cell in cells) + "|"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(operations_table(), encoding="utf-8")
