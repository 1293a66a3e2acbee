"""Each operation alone: built with Core ML Tools, saved, read back, run, and compared with torch or its formula."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from converters.coreml.mil.ops_constexpr import UNPACKERS
from converters.coreml.mil.planning import PLANNERS
from converters.coreml.mil.program import MilProgram

Body = Callable[..., Any]
Reference = Callable[..., Tensor]
Floats = NDArray[np.float32]

_RANDOM = np.random.default_rng(11)


def _floats(*shape: int) -> Floats:
    return _RANDOM.standard_normal(shape).astype(np.float32)


_W = _floats(6, 4, 3, 3)
_W_GROUPED = _floats(8, 2, 3, 5)
_W_TRANSPOSED = _floats(8, 3, 4, 4)
_B6, _B8 = _floats(6), _floats(8)
_PICTURE = (1, 8, 9, 7)
_ROWS = _floats(5, 7)


def _t(array: Floats) -> Tensor:
    return torch.from_numpy(array)


def _conv_same(x: Tensor, *, extra_first: bool) -> Tensor:
    """An even kernel at stride 2 on 9 rows pads 1 row, on 7 columns 1 column: on one side only."""
    one = (1, 0) if extra_first else (0, 1)
    return F.conv2d(F.pad(x, one * 2), _t(_W_EVEN), stride=2)


_W_EVEN = _floats(5, 8, 2, 2)
_W_DEEP = _floats(3, 2, 2, 3, 3)

_MODULI = np.abs(_floats(1, 8, 9, 7)) + 0.5

CASES: dict[str, tuple[Body, Reference, tuple[int, ...]]] = {
    "conv custom": (
        lambda mb, x: mb.conv(
            x=x, weight=_W_GROUPED, bias=_B8, strides=[2, 1], pad_type="custom", pad=[0, 2, 3, 1], groups=4
        ),
        lambda x: F.conv2d(F.pad(x, (3, 1, 0, 2)), _t(_W_GROUPED), _t(_B8), stride=(2, 1), groups=4),
        _PICTURE,
    ),
    "conv dilated, no bias": (
        lambda mb, x: mb.conv(x=x, weight=_W, dilations=[2, 3], pad_type="valid"),
        lambda x: F.conv2d(x, _t(_W), dilation=(2, 3)),
        (1, 4, 9, 9),
    ),
    "conv same": (
        lambda mb, x: mb.conv(x=x, weight=_W_EVEN, strides=[2, 2], pad_type="same"),
        lambda x: _conv_same(x, extra_first=False),
        _PICTURE,
    ),
    "conv same_lower": (
        lambda mb, x: mb.conv(x=x, weight=_W_EVEN, strides=[2, 2], pad_type="same_lower"),
        lambda x: _conv_same(x, extra_first=True),
        _PICTURE,
    ),
    "conv of one axis": (
        lambda mb, x: mb.conv(x=x, weight=_W[..., 0], pad_type="custom", pad=[1, 1]),
        lambda x: F.conv1d(x, _t(_W[..., 0]), padding=1),
        (1, 4, 9),
    ),
    "conv_transpose": (
        lambda mb, x: mb.conv_transpose(
            x=x, weight=_W_TRANSPOSED, bias=_B6[:3], strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1]
        ),
        lambda x: F.conv_transpose2d(x, _t(_W_TRANSPOSED), _t(_B6[:3]), stride=2, padding=1),
        _PICTURE,
    ),
    "linear": (
        lambda mb, x: mb.linear(x=x, weight=_ROWS, bias=_B8[:5]),
        lambda x: x @ _t(_ROWS).T + _t(_B8[:5]),
        (3, 7),
    ),
    "matmul": (
        lambda mb, x: mb.matmul(x=x, y=_ROWS, transpose_x=True, transpose_y=True),
        lambda x: x.mT @ _t(_ROWS).T,
        (2, 7, 4),
    ),
    "max_pool": (
        lambda mb, x: mb.max_pool(x=x, kernel_sizes=[3, 2], strides=[2, 2], pad_type="custom", pad=[1, 0, 1, 1]),
        lambda x: F.max_pool2d(F.pad(x, (1, 1, 1, 0), value=-torch.inf), (3, 2), 2),
        _PICTURE,
    ),
    "max_pool ceil": (
        lambda mb, x: mb.max_pool(x=x, kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid", ceil_mode=True),
        lambda x: F.max_pool2d(x, 2, ceil_mode=True),
        _PICTURE,
    ),
    "avg_pool": (
        lambda mb, x: mb.avg_pool(x=x, kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1]),
        lambda x: F.avg_pool2d(x, 3, 2, 1),
        _PICTURE,
    ),
    "avg_pool without padding": (
        lambda mb, x: mb.avg_pool(
            x=x,
            kernel_sizes=[3, 3],
            strides=[2, 2],
            pad_type="custom",
            pad=[1, 1, 1, 1],
            exclude_padding_from_average=True,
        ),
        lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
        _PICTURE,
    ),
    "avg_pool ceil": (
        lambda mb, x: mb.avg_pool(x=x, kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid", ceil_mode=True),
        lambda x: F.avg_pool2d(x, 2, ceil_mode=True),
        _PICTURE,
    ),
    "batch_norm": (
        lambda mb, x: mb.batch_norm(x=x, mean=_B8, variance=_B8**2 + 1, gamma=_B8 + 2, beta=-_B8, epsilon=1e-3),
        lambda x: F.batch_norm(x, _t(_B8), _t(_B8**2 + 1), _t(_B8 + 2), _t(-_B8), eps=1e-3),
        _PICTURE,
    ),
    "instance_norm": (
        lambda mb, x: mb.instance_norm(x=x, gamma=_B8, beta=-_B8, epsilon=1e-3),
        lambda x: F.instance_norm(x, weight=_t(_B8), bias=_t(-_B8), eps=1e-3),
        _PICTURE,
    ),
    "layer_norm": (
        lambda mb, x: mb.layer_norm(x=x, axes=[-1], gamma=_B8[:7], beta=_B6[0] + _B8[:7], epsilon=1e-3),
        lambda x: F.layer_norm(x, (7,), _t(_B8[:7]), _t(_B6[0] + _B8[:7]), eps=1e-3),
        _PICTURE,
    ),
    "relu": (lambda mb, x: mb.relu(x=x), torch.relu, _PICTURE),
    "relu6": (lambda mb, x: mb.relu6(x=mb.mul(x=x, y=9.0)), lambda x: F.relu6(x * 9), _PICTURE),
    "elu": (lambda mb, x: mb.elu(x=x, alpha=0.7), lambda x: F.elu(x, 0.7), _PICTURE),
    "leaky_relu": (lambda mb, x: mb.leaky_relu(x=x, alpha=0.3), lambda x: F.leaky_relu(x, 0.3), _PICTURE),
    "prelu": (lambda mb, x: mb.prelu(x=x, alpha=_B8), lambda x: F.prelu(x, _t(_B8)), _PICTURE),
    "clamped_relu": (
        lambda mb, x: mb.clamped_relu(x=x, alpha=0.5, beta=0.8),
        lambda x: torch.where(x >= 0, x, 0.5 * x).clamp(max=0.8),
        _PICTURE,
    ),
    "thresholded_relu": (
        lambda mb, x: mb.thresholded_relu(x=x, alpha=0.5),
        lambda x: x * (x >= 0.5),
        _PICTURE,
    ),
    "linear_activation": (lambda mb, x: mb.linear_activation(x=x, alpha=2.0, beta=1.0), lambda x: 2 * x + 1, _PICTURE),
    "scaled_tanh": (lambda mb, x: mb.scaled_tanh(x=x, alpha=2.0, beta=0.5), lambda x: 2 * torch.tanh(x / 2), _PICTURE),
    "sigmoid": (lambda mb, x: mb.sigmoid(x=x), torch.sigmoid, _PICTURE),
    "sigmoid_hard": (
        lambda mb, x: mb.sigmoid_hard(x=x, alpha=0.2, beta=0.4),
        lambda x: (0.2 * x + 0.4).clamp(0, 1),
        _PICTURE,
    ),
    "silu": (lambda mb, x: mb.silu(x=x), F.silu, _PICTURE),
    "softplus": (lambda mb, x: mb.softplus(x=x), F.softplus, _PICTURE),
    "softsign": (lambda mb, x: mb.softsign(x=x), lambda x: x / (1 + x.abs()), _PICTURE),
    "tanh": (lambda mb, x: mb.tanh(x=x), torch.tanh, _PICTURE),
    "gelu": (lambda mb, x: mb.gelu(x=x, mode="EXACT"), F.gelu, _PICTURE),
    "gelu tanh": (
        lambda mb, x: mb.gelu(x=x, mode="TANH_APPROXIMATION"),
        lambda x: F.gelu(x, approximate="tanh"),
        _PICTURE,
    ),
    "gelu sigmoid": (
        lambda mb, x: mb.gelu(x=x, mode="SIGMOID_APPROXIMATION"),
        lambda x: x / (1 + torch.exp(-1.702 * x)),
        _PICTURE,
    ),
    "softmax": (lambda mb, x: mb.softmax(x=x, axis=1), lambda x: torch.softmax(x, 1), _PICTURE),
    "clip": (lambda mb, x: mb.clip(x=x, alpha=-0.3, beta=0.6), lambda x: x.clamp(-0.3, 0.6), _PICTURE),
    "threshold": (lambda mb, x: mb.threshold(x=x, alpha=0.2), lambda x: x.clamp(min=0.2), _PICTURE),
    "add": (lambda mb, x: mb.add(x=x, y=_B8.reshape(8, 1, 1)), lambda x: x + _t(_B8.reshape(8, 1, 1)), _PICTURE),
    "sub": (lambda mb, x: mb.sub(x=1.0, y=x), lambda x: 1 - x, _PICTURE),
    "mul": (lambda mb, x: mb.mul(x=x, y=x), lambda x: x * x, _PICTURE),
    "real_div": (lambda mb, x: mb.real_div(x=x, y=3.0), lambda x: x / 3, _PICTURE),
    "floor_div": (lambda mb, x: mb.floor_div(x=x, y=0.5), lambda x: torch.floor(x / 0.5), _PICTURE),
    "pow": (lambda mb, x: mb.pow(x=mb.abs(x=x), y=1.5), lambda x: x.abs() ** 1.5, _PICTURE),
    "maximum": (lambda mb, x: mb.maximum(x=x, y=0.1), lambda x: x.clamp(min=0.1), _PICTURE),
    "minimum": (lambda mb, x: mb.minimum(x=x, y=0.1), lambda x: x.clamp(max=0.1), _PICTURE),
    "log": (lambda mb, x: mb.log(x=mb.square(x=x), epsilon=0.1), lambda x: torch.log(x * x + 0.1), _PICTURE),
    "rsqrt": (lambda mb, x: mb.rsqrt(x=mb.abs(x=x), epsilon=0.1), lambda x: 1 / (x.abs() + 0.1).sqrt(), _PICTURE),
    "inverse": (lambda mb, x: mb.inverse(x=mb.exp(x=x), epsilon=0.1), lambda x: 1 / (x.exp() + 0.1), _PICTURE),
    "sqrt": (lambda mb, x: mb.sqrt(x=mb.abs(x=x)), lambda x: x.abs().sqrt(), _PICTURE),
    "waves": (lambda mb, x: mb.add(x=mb.sin(x=x), y=mb.cos(x=x)), lambda x: x.sin() + x.cos(), _PICTURE),
    "tan": (lambda mb, x: mb.tan(x=mb.tanh(x=x)), lambda x: torch.sin(x.tanh()) / torch.cos(x.tanh()), _PICTURE),
    "hyperbolic": (
        lambda mb, x: mb.add(x=mb.sinh(x=x), y=mb.cosh(x=x)),
        lambda x: x.double().exp().float(),
        _PICTURE,
    ),
    "sinh": (lambda mb, x: mb.sinh(x=x), lambda x: (x.exp() - (-x).exp()) / 2, (4,)),
    "cosh": (lambda mb, x: mb.cosh(x=x), lambda x: (x.exp() + (-x).exp()) / 2, (4,)),
    "asin": (lambda mb, x: mb.asin(x=mb.sin(x=x)), lambda x: torch.atan2(x.sin(), x.cos().abs()), _PICTURE),
    "acos": (lambda mb, x: mb.acos(x=mb.cos(x=x)), lambda x: torch.atan2(x.sin().abs(), x.cos()), (5,)),
    "atan": (lambda mb, x: mb.atan(x=x), lambda x: torch.atan2(x, torch.ones(())), _PICTURE),
    "atanh": (
        lambda mb, x: mb.atanh(x=mb.mul(x=mb.tanh(x=x), y=0.5)),
        lambda x: (torch.log1p(x.tanh() / 2) - torch.log1p(-x.tanh() / 2)) / 2,
        _PICTURE,
    ),
    "exp2": (lambda mb, x: mb.exp2(x=x), lambda x: 2.0**x, _PICTURE),
    "round": (
        lambda mb, x: mb.round(x=mb.mul(x=mb.floor(x=mb.mul(x=x, y=4.0)), y=0.5)),
        lambda x: torch.from_numpy(np.rint(np.floor(x.numpy() * 4) * 0.5)),
        _PICTURE,
    ),
    "mod": (
        lambda mb, x: mb.mod(x=mb.mul(x=x, y=4.0), y=mb.select(cond=mb.greater(x=x, y=0.3), a=_MODULI, b=-_MODULI)),
        lambda x: torch.from_numpy(np.mod(x.numpy() * 4, np.where(x.numpy() > 0.3, _MODULI, -_MODULI))),
        _PICTURE,
    ),
    "softplus_parametric": (
        lambda mb, x: mb.softplus_parametric(x=x, alpha=_B8, beta=_B8 + 1),
        lambda x: _t(_B8[:, None, None]) * torch.log(1 + torch.exp(x * _t(_B8[:, None, None] + 1))),
        _PICTURE,
    ),
    "l2_norm": (
        lambda mb, x: mb.l2_norm(x=x, epsilon=0.5),
        lambda x: torch.stack([one / (one.square().sum() + 0.5).sqrt() for one in x]),
        (3, 4, 2, 5),
    ),
    "l2_norm of rank 5": (
        lambda mb, x: mb.l2_norm(x=x),
        lambda x: x / x.flatten(2).norm(dim=2)[..., None, None, None],
        (2, 3, 4, 2, 5),
    ),
    "local_response_norm": (
        lambda mb, x: mb.local_response_norm(x=x, size=3, alpha=0.3, beta=0.6, k=1.5),
        lambda x: F.local_response_norm(x, 3, 0.3, 0.6, 1.5),
        _PICTURE,
    ),
    "local_response_norm by default": (
        lambda mb, x: mb.local_response_norm(x=mb.mul(x=x, y=100.0), size=5),
        lambda x: F.local_response_norm(x * 100, 5),
        (2, 8, 9),
    ),
    "l2_pool": (
        lambda mb, x: mb.l2_pool(x=x, kernel_sizes=[3, 2], strides=[2, 1], pad_type="custom", pad=[1, 0, 2, 1]),
        lambda x: F.lp_pool2d(F.pad(x, (2, 1, 1, 0)), 2.0, (3, 2), (2, 1)),
        _PICTURE,
    ),
    "l2_pool of one axis": (
        lambda mb, x: mb.l2_pool(x=x, kernel_sizes=[3], pad_type="valid"),
        lambda x: F.lp_pool1d(x, 2.0, 3, 1),
        (2, 3, 9),
    ),
    "avg_pool of three axes": (
        lambda mb, x: mb.avg_pool(x=x, kernel_sizes=[2, 3, 2], strides=[1, 2, 2], pad_type="valid"),
        lambda x: F.avg_pool3d(x, (2, 3, 2), (1, 2, 2)),
        (1, 2, 5, 7, 6),
    ),
    "avg_pool same_lower without padding": (
        lambda mb, x: mb.avg_pool(
            x=x, kernel_sizes=[2], strides=[2], pad_type="same_lower", exclude_padding_from_average=True
        ),
        lambda x: torch.cat((x[..., :1], F.avg_pool1d(x[..., 1:], 2)), -1),
        (1, 2, 7),
    ),
    "max_pool same": (
        lambda mb, x: mb.max_pool(x=x, kernel_sizes=[2], strides=[2], pad_type="same"),
        lambda x: torch.cat((F.max_pool1d(x[..., :6], 2), x[..., 6:]), -1),
        (1, 2, 7),
    ),
    "conv of three axes": (
        lambda mb, x: mb.conv(x=x, weight=_W_DEEP, strides=[1, 2, 1], dilations=[1, 1, 2], pad_type="same"),
        lambda x: F.conv3d(F.pad(x, (2, 2, 1, 1, 0, 1)), _t(_W_DEEP), stride=(1, 2, 1), dilation=(1, 1, 2)),
        (1, 2, 4, 5, 6),
    ),
    "conv with computed weights and bias": (
        lambda mb, x: mb.conv(
            x=x,
            weight=mb.slice_by_size(x=x, begin=[0, 0, 1, 2], size=[1, 8, 3, 2]),
            bias=mb.reduce_max(x=x, axes=[1, 2, 3]),
        ),
        lambda x: F.conv2d(x, x[:, :, 1:4, 2:4], x.amax((1, 2, 3))),
        _PICTURE,
    ),
    "batch_norm without scale": (
        lambda mb, x: mb.batch_norm(x=x, mean=_B8, variance=_B8**2 + 1),
        lambda x: F.batch_norm(x, _t(_B8), _t(_B8**2 + 1)),
        (2, 8, 5),
    ),
    "steps": (
        lambda mb, x: mb.add(x=mb.add(x=mb.floor(x=x), y=mb.ceil(x=x)), y=mb.sign(x=x)),
        lambda x: x.floor() + x.ceil() + x.sign(),
        _PICTURE,
    ),
    "erf": (lambda mb, x: mb.erf(x=x), torch.erf, _PICTURE),
    "cast": (
        lambda mb, x: mb.cast(x=mb.cast(x=mb.mul(x=x, y=3.0), dtype="int32"), dtype="fp32"),
        lambda x: (x * 3).trunc(),
        _PICTURE,
    ),
    "select": (
        lambda mb, x: mb.select(
            cond=mb.logical_and(x=mb.greater(x=x, y=-0.5), y=mb.logical_not(x=mb.less_equal(x=x, y=0.2))),
            a=x,
            b=mb.mul(x=x, y=2.0),
        ),
        lambda x: torch.where(x > 0.2, x, 2 * x),
        _PICTURE,
    ),
    "comparisons": (
        lambda mb, x: mb.cast(
            x=mb.logical_or(
                x=mb.logical_xor(x=mb.less(x=x, y=0.0), y=mb.not_equal(x=x, y=x)),
                y=mb.logical_and(x=mb.greater_equal(x=x, y=1.0), y=mb.equal(x=x, y=x)),
            ),
            dtype="fp32",
        ),
        lambda x: ((x < 0) | (x >= 1)).float(),
        _PICTURE,
    ),
    "identity": (lambda mb, x: mb.identity(x=x), lambda x: x, _PICTURE),
}


@pytest.mark.parametrize("case", CASES)
def test_operation_does_what_its_reference_does(case: str, compare: Callable[..., None]) -> None:
    compare(*CASES[case])


@pytest.mark.parametrize("target", ["iOS15", "iOS18"])
def test_old_and_new_opsets_agree(target: str, save_program: Callable[..., Path]) -> None:
    path = save_program(
        lambda mb, x: mb.batch_norm(
            x=mb.inverse(x=mb.conv(x=mb.rsqrt(x=mb.square(x=x)), weight=_W)), mean=_B6, variance=_B6**2 + 1
        ),
        x=(1, 4, 5, 5),
        target=target,
    )
    x = np.random.default_rng(0).standard_normal((1, 4, 5, 5)).astype(np.float32)
    (result,) = MilProgram.load(path).predict({"x": x}).values()
    inner = F.conv2d(1 / (_t(x) ** 2 + 1e-12).sqrt(), _t(_W))
    wanted = F.batch_norm(1 / (inner + 1e-4), _t(_B6), _t(_B6**2 + 1))
    np.testing.assert_allclose(result, wanted.numpy(), rtol=1e-5, atol=2e-6)


INTEGERS: dict[str, tuple[Body, Callable[[NDArray[Any]], NDArray[Any]]]] = {
    "floor_div": (lambda mb, x: mb.floor_div(x=x, y=-3), lambda x: x // -3),
    "mod": (lambda mb, x: mb.mod(x=x, y=-3), lambda x: x % -3),
    "pow": (lambda mb, x: mb.pow(x=x, y=3), lambda x: x**3),
    "threshold": (lambda mb, x: mb.threshold(x=x, alpha=2), lambda x: np.maximum(x, 2)),
    "sign": (lambda mb, x: mb.sign(x=x), np.sign),
    "square": (lambda mb, x: mb.square(x=mb.abs(x=x)), np.square),
    "matmul": (lambda mb, x: mb.matmul(x=x, y=x, transpose_y=True), lambda x: x @ x.T),
    "reduce_mean": (lambda mb, x: mb.reduce_mean(x=x, axes=[0]), lambda x: np.trunc(x.mean(0))),
    "reduce_sum": (lambda mb, x: mb.reduce_sum(x=x, axes=[0]), lambda x: x.sum(0)),
    "reduce_prod": (lambda mb, x: mb.reduce_prod(x=x, axes=[0]), lambda x: x.prod(0)),
    "reduce_l2_norm": (lambda mb, x: mb.reduce_l2_norm(x=x, axes=[0]), lambda x: np.trunc(np.sqrt((x * x).sum(0)))),
    "cumsum": (lambda mb, x: mb.cumsum(x=x, axis=1), lambda x: x.cumsum(1)),
}


@pytest.mark.parametrize("case", INTEGERS)
def test_integers_stay_integers(case: str, save_program: Callable[..., Path]) -> None:
    body, reference = INTEGERS[case]
    x = np.random.default_rng(5).integers(-9, 10, (3, 7))
    program = MilProgram.load(save_program(lambda mb, x: body(mb, mb.cast(x=x, dtype="int32")), x=x.shape))
    (result,) = program.predict({"x": x}).values()
    assert result.dtype == np.int32
    assert np.array_equal(result, reference(x))


def test_every_implemented_operation_is_tested() -> None:
    here = Path(__file__)
    files = [file for file in here.parent.glob("test_*.py") if file.name != "test_refusals.py"]
    text = "".join(file.read_text() for file in files)
    assert [name for name in (*PLANNERS, *UNPACKERS) if f"mb.{name}(" not in text] == []
