"""Which operations treat the entries of their first axis alike, so that several pictures can go through at once.

A program is written for one picture. Where every operation maps entry n of its inputs to entry n of its outputs and
nothing has the length 1 written into it, running N pictures stacked is running each of them.
"""

from typing import Final

from converters.coreml.mil import ops_activation, ops_conv, ops_elementwise, ops_pooling, ops_quantize, ops_resize
from converters.coreml.mil.arguments import Arguments, Kernel
from converters.coreml.mil.constants import TensorType

__all__ = ["keeps_entries_apart", "stacks"]

_ENTRY_BY_ENTRY: Final = frozenset(
    {
        *ops_activation.PLANNERS,
        *ops_conv.PLANNERS,
        *ops_elementwise.PLANNERS,
        *ops_pooling.PLANNERS,
        *ops_quantize.PLANNERS,
        *ops_resize.PLANNERS,
        *("batch_norm", "concat", "pad", "reduce_max", "reduce_mean", "reduce_min", "reduce_sum"),
    }
)
"""Operations that do so where one entry goes in, one comes out, and they do not work along the first axis."""


def stacks(kind: TensorType) -> bool:
    """Whether values of a type are one entry along their first axis."""
    return len(kind.shape) > 1 and kind.shape[0] == 1


def keeps_entries_apart(args: Arguments, kernel: Kernel) -> bool:
    """Whether an operation maps each entry of its first axis by itself, however many there are."""
    operation = args.operation
    outputs = [value.type for value in operation.outputs]
    rank = len(outputs[0].shape)
    computed = [args.type_of_bound(bound) for bound in kernel.operands if not args.known(bound)]
    if not all(stacks(value) and len(value.shape) == rank for value in (*computed, *outputs)):
        return False
    if operation.kind == "concat" and len(computed) < len(kernel.operands):
        return False  # a constant among them has one entry, whatever the others have
    return operation.kind in _ENTRY_BY_ENTRY and not _works_along_entries(args, rank)


def _works_along_entries(args: Arguments, rank: int) -> bool:
    if args.operation.kind.startswith("reduce_"):
        return 0 in args.axes("axes", rank)
    return args.operation.kind == "softmax" and args.axis("axis", rank, default=-1) == 0
