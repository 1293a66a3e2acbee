"""Which operations treat the entries of their first axis alike, so that several pictures can go through at once.

A program is written for one picture. Where every operation maps entry n of its inputs to entry n of its outputs and
nothing has the length 1 written into it, running N pictures stacked is running each of them.
"""

from typing import Final

from converters.coreml.mil import ops_activation, ops_conv, ops_elementwise, ops_pooling, ops_quantize, ops_resize
from converters.coreml.mil.arguments import Arguments, Kernel
from converters.coreml.mil.constants import TensorType

__all__ = ["keeps_entries_apart", "stacks"]

_WITH_PARAMETERS: Final = frozenset(
    {*ops_conv.PLANNERS, *ops_pooling.PLANNERS, *ops_quantize.PLANNERS, *ops_resize.PLANNERS, "batch_norm"}
)
"""Their constants are not laid beside the picture's axes."""

_BROADCASTING: Final = frozenset({*ops_elementwise.PLANNERS, *ops_activation.PLANNERS}) - {"softmax"}
_ALONG_AXES: Final = frozenset({"reduce_mean", "reduce_sum", "reduce_max", "reduce_min", "softmax", "pad"})


def stacks(kind: TensorType) -> bool:
    """Whether values of a type are one entry along their first axis."""
    return len(kind.shape) > 1 and kind.shape[0] == 1


def keeps_entries_apart(args: Arguments, kernel: Kernel) -> bool:
    """Whether an operation maps each entry of its first axis by itself, however many there are."""
    outputs = [value.type for value in args.operation.outputs]
    rank = len(outputs[0].shape)
    constants = [constant for bound in kernel.operands if (constant := args.known(bound))]
    computed = [args.type_of_bound(bound) for bound in kernel.operands if not args.known(bound)]
    if not all(stacks(value) and len(value.shape) == rank for value in (*computed, *outputs)):
        return False
    kind = args.operation.kind
    if kind in _BROADCASTING:
        return all(len(constant.type.shape) < rank or constant.type.shape[0] == 1 for constant in constants)
    if kind == "concat":
        return not constants and not _touches_entries(args, rank)
    return kind in _WITH_PARAMETERS or (kind in _ALONG_AXES and not _touches_entries(args, rank))


def _touches_entries(args: Arguments, rank: int) -> bool:
    """Whether an operation along axes works along the first."""
    if args.has("pad"):
        return not args.is_constant("pad") or any(args.integers("pad")[: -2 * (rank - 1)])
    if args.has("axes"):
        return 0 in args.axes("axes", rank)
    return not args.has("axis") or args.axis("axis", rank) == 0
