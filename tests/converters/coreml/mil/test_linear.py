"""Matrix products, attention and transposed convolutions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional as F

from converters.coreml.mil.program import MilProgram
from lspdmobile.errors import ConversionError

Array = NDArray[Any]


def _floats(*shape: int) -> Array:
    return np.random.default_rng(6).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("nchw,nwhu->nchu", [(2, 3, 4, 5), (2, 5, 4, 6)]),
        ("abcd,adce->abce", [(2, 3, 4, 5), (2, 5, 4, 6)]),
        ("nchw,nwhu->nchu", [(1, 3, 4, 5), (2, 5, 1, 6)]),
        ("chw,whr->chr", [(3, 4, 5), (5, 4, 6)]),
        ("chw,whr->chr", [(3, 1, 5), (5, 4, 6)]),
    ],
)
def test_einsum(equation: str, shapes: list[tuple[int, ...]], check: Callable[..., None]) -> None:
    def reference(x: Array, y: Array) -> Array:
        return (np.swapaxes(x, -2, -3) @ np.swapaxes(y, -2, -3)).swapaxes(-2, -3)

    check(
        lambda mb, x, y: mb.einsum(values=(x, y), equation=equation), reference, *(_floats(*shape) for shape in shapes)
    )


@pytest.mark.parametrize("mask", [None, "bool", "float"])
def test_scaled_dot_product_attention(mask: str | None, check: Callable[..., None]) -> None:
    key, value = _floats(2, 3, 5, 4) * 2, _floats(2, 3, 5, 6)
    number = np.random.default_rng(0).standard_normal((1, 7, 5)).astype(np.float32)
    held = None if mask is None else number > -0.8 if mask == "bool" else number

    def reference(query: Array) -> Array:
        queries, keys, values = (torch.from_numpy(array) for array in (query, key, value))
        wanted = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=None if held is None else torch.from_numpy(held)
        )
        return wanted.numpy()

    named = {} if held is None else {"attn_mask": held}
    check(
        lambda mb, x: mb.scaled_dot_product_attention(query=x, key=key, value=value, **named),
        reference,
        _floats(2, 3, 7, 4),
        target="iOS18",
    )


def test_linear_without_bias(check: Callable[..., None]) -> None:
    weight = _floats(5, 7)
    check(lambda mb, x: mb.linear(x=x, weight=weight), lambda x: x @ weight.T, _floats(2, 3, 7))


def test_matmul_of_a_vector_and_with_batches(check: Callable[..., None]) -> None:
    many = _floats(4, 3, 2)
    check(lambda mb, x: mb.matmul(x=x, y=many), lambda x: x @ many, _floats(5, 1, 6, 3))
    check(lambda mb, x: mb.matmul(x=x, y=many[0]), lambda x: x @ many[0], _floats(3))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_conv_transpose_is_the_gradient_of_a_convolution(data: st.DataObject, check: Callable[..., None]) -> None:
    size, kernel, stride = (data.draw(st.integers(low, high)) for low, high in ((3, 12), (1, 4), (1, 3)))
    dilation, groups = data.draw(st.integers(1, 2)), data.draw(st.sampled_from([1, 2]))
    pad_type = data.draw(st.sampled_from(["valid", "same", "custom"]))
    span = (kernel - 1) * dilation + 1
    before, after = 0, 0
    if pad_type == "custom":
        before, after = data.draw(st.integers(0, kernel - 1)), data.draw(st.integers(0, kernel - 1))
    elif pad_type == "same":
        total = max(0, (-(-size // stride) - 1) * stride + span - size)
        before, after = total // 2, total - total // 2
    assume(size + before + after >= span)
    weight, bias = _floats(4, 6 // groups, kernel, 1), _floats(6)

    def forward(picture: torch.Tensor) -> torch.Tensor:
        padded = F.pad(picture, (0, 0, before, after))
        return F.conv2d(padded, torch.from_numpy(weight), stride=(stride, 1), dilation=(dilation, 1), groups=groups)

    output = forward(torch.zeros(1, 6, size, 2))

    def reference(x: Array) -> Array:
        picture = torch.zeros(1, 6, size, 2, requires_grad=True)
        (gradient,) = torch.autograd.grad(forward(picture), picture, torch.from_numpy(x))
        return gradient.numpy() + bias[:, None, None]

    check(
        lambda mb, x: mb.conv_transpose(
            x=x,
            weight=weight,
            bias=bias,
            strides=[stride, 1],
            dilations=[dilation, 1],
            groups=groups,
            pad_type=pad_type,
            pad=[before, after, 0, 0] if pad_type == "custom" else [0, 0, 0, 0],
            output_shape=[1, 6, size, 2],
        ),
        reference,
        _floats(*output.shape),
    )


@pytest.mark.parametrize("target", ["iOS15", "iOS18"])
def test_conv_transpose_same_multiplies_the_lengths(target: str, check: Callable[..., None]) -> None:
    weight = _floats(3, 2, 4, 5)
    check(
        lambda mb, x: mb.conv_transpose(x=x, weight=weight, strides=[2, 3], pad_type="same"),
        lambda x: F.conv_transpose2d(torch.from_numpy(x), torch.from_numpy(weight), None, (2, 3), (1, 1)).numpy(),
        _floats(1, 3, 5, 4),
        target=target,
    )


def test_conv_transpose_with_computed_weights(check: Callable[..., None]) -> None:
    check(
        lambda mb, x, y: mb.conv_transpose(x=x, weight=y, strides=[2], pad_type="valid"),
        lambda x, y: F.conv_transpose1d(torch.from_numpy(x), torch.from_numpy(y), stride=2).numpy(),
        _floats(1, 3, 5),
        _floats(3, 2, 4),
        target="iOS17",
    )


def test_an_output_no_convolution_would_take_back_is_refused(save_program: Callable[..., Path]) -> None:
    path = save_program(
        lambda mb, x: mb.conv_transpose(
            x=x, weight=_floats(3, 2, 4), strides=[2], pad_type="valid", output_shape=[1, 2, 40]
        ),
        x=(1, 3, 5),
    )
    with pytest.raises(ConversionError, match=r"output_shape \[40\] is not what a convolution takes to \[5\]"):
        MilProgram.load(path).predict({"x": _floats(1, 3, 5)})
