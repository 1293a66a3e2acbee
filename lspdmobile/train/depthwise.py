"""Depthwise convolutions whose gradients are fast on a CPU; the values are PyTorch's own up to rounding.

Some of oneDNN's backward kernels for depthwise convolutions are reference code, 10 to 100 times slower than the
forward kernel: the input's gradient at stride 2, the weight's gradient of a 5x5, and both at a dilation. Each can be
said by the fast ones, exactly:

1. The input's gradient is a convolution, at stride 1, of the output's gradient with the kernel turned by 180 degrees;
   at stride 2 the output's gradient is spread out with zeros first.
2. A tap of the weight's gradient depends on the input shifted by the tap alone, not on the kernel around it: a 5x5 is
   put together from the gradients of four 3x3 that see shifted inputs.
3. A convolution at dilation d is d x d separate ones at dilation 1, each on every d-th row and column: entries of a
   batch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

__all__ = ["FastDepthwise"]

_SMALL: Final = 3
_LARGE: Final = 5


@dataclass(frozen=True, kw_only=True)
class _Form:
    """Kernel side, stride and dilation of a depthwise convolution that keeps its size but for the stride."""

    kernel: int
    stride: int
    dilation: int

    @property
    def padding(self) -> int:
        return self.dilation * (self.kernel // 2)

    @property
    def is_slow(self) -> bool:
        """Whether PyTorch's own gradients of it are slow."""
        k, s, d = self.kernel, self.stride, self.dilation
        return (k, s, d) == (_SMALL, 2, 1) or (k, s, d) == (_LARGE, 1, 1) or ((k, s) == (_SMALL, 1) and d > 1)


class FastDepthwise(TorchFunctionMode):
    """While it is active, depthwise convolutions without bias on a CPU have fast gradients. Nothing else changes."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.conv2d and torch.is_grad_enabled() and not kwargs:
            form = _form_of(*args)
            if form is not None:
                return _Depthwise.apply(*_cast(args[0], args[1]), form)  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))


def _form_of(x: Tensor, weight: Tensor, *others: Any) -> _Form | None:
    """Give the form of a convolution's arguments, None where PyTorch's gradients of it are good.

    Args:
        x: Input ``[N, C, H, W]``.
        weight: Kernels ``[C_out, C_in, k, k]``.
        others: Bias, stride, padding, dilation and groups; fewer where the rest is at its default.
    """
    if len(others) < 5:
        return None
    bias, stride, padding, dilation, groups = others
    channels, inside, rows, columns = weight.shape
    if x.device.type != "cpu" or bias is not None or not channels == groups == x.shape[1] or inside != 1:
        return None
    form = _Form(kernel=rows, stride=stride[0], dilation=dilation[0])
    step = form.stride * form.dilation
    is_square = rows == columns and all(v == (v[0], v[0]) for v in (stride, dilation))
    fits = padding == (form.padding, form.padding) and not (x.shape[2] % step or x.shape[3] % step)
    return form if is_square and fits and form.is_slow else None


def _cast(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Cast as autocast would: here PyTorch's own convolution, which does it, is not called."""
    if not torch.is_autocast_enabled("cpu"):
        return x, weight
    dtype = torch.get_autocast_dtype("cpu")
    return x.to(dtype), weight.to(dtype)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, form: _Form) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.form = form
        return F.conv2d(x, weight, None, form.stride, form.padding, form.dilation, weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        wants_input, wants_weight, _ = ctx.needs_input_grad
        return (
            _of_input(gradient, weight, ctx.form) if wants_input else None,
            _of_weight(gradient, x, weight, ctx.form) if wants_weight else None,
            None,
        )


def _of_input(gradient: Tensor, weight: Tensor, form: _Form) -> Tensor:
    if form.stride > 1:
        gradient = _spread(gradient, form.stride)
    return F.conv2d(gradient, weight.flip(2, 3), None, 1, form.padding, form.dilation, weight.shape[0])


def _of_weight(gradient: Tensor, x: Tensor, weight: Tensor, form: _Form) -> Tensor:
    if form.dilation > 1:
        gradient, x = _separate(gradient, form.dilation), _separate(x, form.dilation)
    if form.kernel == _SMALL:
        return _three_by_three(gradient, x, weight, stride=form.stride, padding=1)
    rows, columns, edge = gradient.shape[2], gradient.shape[3], form.padding
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, edge, edge, edge, edge)).permute(0, 3, 1, 2)
    found, part = torch.empty_like(weight), weight[:, :, :_SMALL, :_SMALL]
    for i in (0, _LARGE - _SMALL):
        for j in (0, _LARGE - _SMALL):
            seen = padded[:, :, i : i + rows + 2, j : j + columns + 2].contiguous(memory_format=torch.channels_last)
            found[:, :, i : i + _SMALL, j : j + _SMALL] = _three_by_three(gradient, seen, part, stride=1, padding=0)
    return found


def _three_by_three(gradient: Tensor, x: Tensor, weight: Tensor, *, stride: int, padding: int) -> Tensor:
    """Give the weight's gradient of a depthwise 3x3 at dilation 1, by PyTorch."""
    found: Tensor = torch.ops.aten.convolution_backward(
        gradient,
        x,
        weight,
        None,
        [stride, stride],
        [padding, padding],
        [1, 1],
        False,
        [0, 0],
        weight.shape[0],
        [False, True, False],
    )[1]
    return found


def _spread(x: Tensor, step: int) -> Tensor:
    """Put every entry of ``[N, C, h, w]`` at the top left of a square of zeros ``step`` wide."""
    n, c, rows, columns = x.shape
    wide = x.new_zeros(n, rows, step, columns, step, c)
    wide[:, :, 0, :, 0] = x.permute(0, 2, 3, 1)
    return wide.view(n, rows * step, columns * step, c).permute(0, 3, 1, 2)


def _separate(x: Tensor, step: int) -> Tensor:
    """Make entries of the batch of every ``step``-th row and column: ``[step * step * N, C, h / step, w / step]``."""
    n, c, rows, columns = x.shape
    apart = x.permute(0, 2, 3, 1).reshape(n, rows // step, step, columns // step, step, c)
    entries = apart.permute(2, 4, 0, 1, 3, 5).reshape(-1, rows // step, columns // step, c)
    return entries.permute(0, 3, 1, 2)
