"""Matrix products and attention."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from converters.coreml.mil.arguments import Arguments, Kernel, Planner

__all__ = ["PLANNERS"]


def _linear(args: Arguments) -> Kernel:
    return args.kernel(F.linear, "x", "weight", "bias?")


def _matmul(args: Arguments) -> Kernel:
    transpose_x, transpose_y = args.flag("transpose_x"), args.flag("transpose_y")
    for name, transposed in (("x", transpose_x), ("y", transpose_y)):
        if transposed and args.rank(name) < 2:
            args.refuse(f"transpose_{name}", "of a vector is not implemented")

    def run(x: Tensor, y: Tensor) -> Tensor:
        return torch.matmul(x.mT if transpose_x else x, y.mT if transpose_y else y)

    return args.kernel(run, "x", "y")


def _einsum(args: Arguments) -> Kernel:
    """Multiplies along the last axis of one and the last but two of the other; axes of length 1 stretch."""
    equation = args.constant("equation").value
    letters = dict.fromkeys(letter for letter in str(equation) if letter.isalpha())
    plain = str(equation).translate({ord(letter): "abcdefgh"[place] for place, letter in enumerate(letters)})
    if plain not in ("abcd,adce->abce", "abc,cbd->abd"):
        args.refuse("equation", f"{equation!r} is not implemented; nchw,nwhu->nchu and chw,whr->chr are")
    return Kernel(operands=args.bindings("values"), run=lambda *tensors: torch.einsum(plain, *tensors))


def _scaled_dot_product_attention(args: Arguments) -> Kernel:
    """``softmax(query key^T / sqrt(E) + mask) value``; where a truth-valued mask is false nothing is attended to."""

    def run(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        scores = query @ key.mT / query.shape[-1] ** 0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        return torch.softmax(scores, -1) @ value

    return args.kernel(run, "query", "key", "value", "attn_mask?")


PLANNERS: Final[Mapping[str, Planner]] = {
    "einsum": _einsum,
    "linear": _linear,
    "matmul": _matmul,
    "scaled_dot_product_attention": _scaled_dot_product_attention,
}
