"""Operations that move, pad or reduce values, one at a time; see ``test_operations``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from converters.coreml.mil.program import MilProgram

Body = Callable[..., Any]
Reference = Callable[..., Tensor]

_PICTURE = (1, 8, 9, 7)


def _sums(x: Tensor, axis: int) -> Tensor:
    parts = [x.narrow(axis, 0, end + 1).sum(axis, keepdim=True) for end in range(x.shape[axis])]
    return torch.cat(parts, axis)


CASES: dict[str, tuple[Body, Reference, tuple[int, ...]]] = {
    "reshape": (lambda mb, x: mb.reshape(x=x, shape=[0, 2, -1, 7]), lambda x: x.reshape(1, 2, -1, 7), (8, 6, 7)),
    "transpose": (lambda mb, x: mb.transpose(x=x, perm=[0, 2, -1, 1]), lambda x: x.permute(0, 2, 3, 1), _PICTURE),
    "squeeze, expand_dims": (
        lambda mb, x: mb.expand_dims(x=mb.squeeze(x=x, axes=[0]), axes=[-1, 1]),
        lambda x: x[0][:, None, ..., None],
        _PICTURE,
    ),
    "concat": (
        lambda mb, x: mb.concat(values=[x, mb.relu(x=x)], axis=-3),
        lambda x: torch.cat((x, x.relu()), 1),
        _PICTURE,
    ),
    "concat interleaved": (
        lambda mb, x: mb.concat(values=[x, mb.relu(x=x)], axis=1, interleave=True),
        lambda x: torch.stack([part for c in range(8) for part in (x[:, c], x[:, c].relu())], 1),
        _PICTURE,
    ),
    "stack": (
        lambda mb, x: mb.stack(values=[x, mb.relu(x=x)], axis=1),
        lambda x: torch.stack((x, x.relu()), 1),
        _PICTURE,
    ),
    "split": (
        lambda mb, x: mb.concat(values=mb.split(x=x, split_sizes=[1, 5, 2], axis=1)[::-1], axis=1),
        lambda x: torch.cat((x[:, 6:], x[:, 1:6], x[:, :1]), 1),
        _PICTURE,
    ),
    "split evenly": (
        lambda mb, x: mb.sub(x=mb.split(x=x, num_splits=4, axis=1)[3], y=mb.split(x=x, num_splits=4, axis=1)[1]),
        lambda x: x[:, 6:] - x[:, 2:4],
        _PICTURE,
    ),
    "crop": (lambda mb, x: mb.crop(x=x, crop_height=[1, 2], crop_width=[0, 3]), lambda x: x[..., 1:7, :4], _PICTURE),
    "tile": (lambda mb, x: mb.tile(x=x, reps=[1, 2, 1, 3]), lambda x: x.repeat(1, 2, 1, 3), _PICTURE),
    "flatten2d": (lambda mb, x: mb.flatten2d(x=x, axis=2), lambda x: x.reshape(8, 63), _PICTURE),
    "pad": (
        lambda mb, x: mb.pad(x=x, pad=[1, 0, 2, 3], mode="constant", constant_val=0.5),
        lambda x: F.pad(x, (2, 3, 1, 0), value=0.5),
        _PICTURE,
    ),
    "pad reflect": (
        lambda mb, x: mb.pad(x=x, pad=[1, 4, 6, 0], mode="reflect"),
        lambda x: F.pad(x, (6, 0, 1, 4), mode="reflect"),
        _PICTURE,
    ),
    "pad replicate": (
        lambda mb, x: mb.pad(x=x, pad=[1, 4, 6, 0], mode="replicate"),
        lambda x: F.pad(x, (6, 0, 1, 4), mode="replicate"),
        _PICTURE,
    ),
    "reduce_mean": (lambda mb, x: mb.reduce_mean(x=x, axes=[2, -1]), lambda x: x.mean((2, 3)), _PICTURE),
    "reduce_sum": (
        lambda mb, x: mb.reduce_sum(x=x, axes=[1], keep_dims=True),
        lambda x: x.sum(1, keepdim=True),
        _PICTURE,
    ),
    "reduce_max": (
        lambda mb, x: mb.reduce_max(x=x, axes=[2, 3], keep_dims=True),
        lambda x: x.amax((2, 3), keepdim=True),
        _PICTURE,
    ),
    "reduce_min": (lambda mb, x: mb.reduce_min(x=x, axes=[0]), lambda x: x.amin(0), _PICTURE),
    "reduce_l1_norm": (lambda mb, x: mb.reduce_l1_norm(x=x, axes=[1]), lambda x: x.abs().sum(1), _PICTURE),
    "reduce_l2_norm": (lambda mb, x: mb.reduce_l2_norm(x=x, axes=[1]), lambda x: x.norm(dim=1), _PICTURE),
    "reduce_sum_square": (lambda mb, x: mb.reduce_sum_square(x=x, axes=[1]), lambda x: (x * x).sum(1), _PICTURE),
    "reduce_log_sum_exp": (
        lambda mb, x: mb.reduce_log_sum_exp(x=x, axes=[1]),
        lambda x: x.exp().sum(1).log(),
        _PICTURE,
    ),
    "reduce_log_sum": (
        lambda mb, x: mb.reduce_log_sum(x=mb.square(x=x), axes=[1, 3]),
        lambda x: (x * x).sum((1, 3)).log(),
        _PICTURE,
    ),
    "reduce_prod": (
        lambda mb, x: mb.reduce_prod(x=x, axes=[-1, 1]),
        lambda x: x.movedim(1, -1).flatten(2).prod(-1),
        (2, 3, 4, 2),
    ),
    "reduce_prod kept": (
        lambda mb, x: mb.reduce_prod(x=x, keep_dims=True),
        lambda x: x.flatten().prod().reshape(1, 1, 1),
        (2, 3, 2),
    ),
    "cumsum": (lambda mb, x: mb.cumsum(x=x, axis=2), lambda x: _sums(x, 2), _PICTURE),
    "cumsum exclusive": (
        lambda mb, x: mb.cumsum(x=x, axis=-1, exclusive=True),
        lambda x: _sums(x, 3) - x,
        _PICTURE,
    ),
    "cumsum reversed": (
        lambda mb, x: mb.cumsum(x=x, axis=1, reverse=True),
        lambda x: x.sum(1, keepdim=True) - _sums(x, 1) + x,
        _PICTURE,
    ),
    "cumsum exclusive and reversed": (
        lambda mb, x: mb.cumsum(x=x, axis=1, reverse=True, exclusive=True),
        lambda x: x.sum(1, keepdim=True) - _sums(x, 1),
        _PICTURE,
    ),
    "concat of scalars": (
        lambda mb, x: mb.concat(values=[mb.reduce_max(x=x), mb.reduce_min(x=x)], axis=0),
        lambda x: torch.stack((x.max(), x.min())),
        _PICTURE,
    ),
    "squeeze of every axis": (
        lambda mb, x: mb.squeeze(x=mb.transpose(x=x, perm=[2, 0, 1, -1])),
        lambda x: x[:, 0, :, 0].T,
        (3, 1, 4, 1),
    ),
    "reshape_like": (
        lambda mb, x: mb.reshape_like(
            x=x,
            ref_tensors=(mb.transpose(x=x, perm=[2, 0, 1]), mb.expand_dims(x=x, axes=[0])),
            begins=(0, 2),
            ends=(1, 0),
            end_masks=(False, True),
        ),
        lambda x: x.reshape(5, 3, 5),
        (5, 3, 5),
    ),
    "reshape_like of parts": (
        lambda mb, x: mb.reshape_like(
            x=x,
            ref_tensors=(mb.transpose(x=x, perm=[2, 0, 1]), mb.expand_dims(x=x, axes=[0])),
            begins=(0, 2),
            ends=(2, 3),
            end_masks=(False, False),
        ),
        lambda x: x.reshape(4, 2, 3),
        (2, 3, 4),
    ),
    "reduce_argmax": (
        lambda mb, x: mb.cast(x=mb.reduce_argmax(x=x, axis=1), dtype="fp32"),
        lambda x: x.argmax(1).float(),
        _PICTURE,
    ),
    "reduce_argmin": (
        lambda mb, x: mb.cast(x=mb.reduce_argmin(x=x, axis=-1, keep_dims=True), dtype="fp32"),
        lambda x: x.argmin(-1, keepdim=True).float(),
        _PICTURE,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_operation_does_what_its_reference_does(case: str, compare: Callable[..., None]) -> None:
    compare(*CASES[case])


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_padding_is_numpys(data: st.DataObject, check: Callable[..., None]) -> None:
    mode = data.draw(st.sampled_from(["constant", "reflect", "replicate"]))
    shape = data.draw(st.lists(st.integers(2, 4), min_size=1, max_size=4))
    axes = data.draw(st.integers(1, len(shape)))
    rows = [data.draw(st.integers(0, size - 1)) for size in shape[-axes:] for _ in range(2)]
    pairs = [(0, 0)] * (len(shape) - axes) + list(zip(rows[::2], rows[1::2], strict=True))
    how: dict[str, Any] = {"mode": "edge" if mode == "replicate" else mode}
    if mode == "constant":
        how["constant_values"] = 0.25
    check(
        lambda mb, x: mb.pad(x=x, pad=rows, mode=mode, constant_val=0.25),
        lambda x: np.pad(x, pairs, **how),
        np.random.default_rng(0).standard_normal(shape).astype(np.float32),
        target=data.draw(st.sampled_from(["iOS15", "iOS18"])),
    )


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_pooling_looks_at_the_cells_under_its_window(data: st.DataObject, check: Callable[..., None]) -> None:
    size, kernel, stride = (data.draw(st.integers(low, high)) for low, high in ((3, 9), (1, 4), (1, 3)))
    before, after = data.draw(st.integers(0, kernel - 1)), data.draw(st.integers(0, kernel - 1))
    exclude = data.draw(st.booleans())
    common: dict[str, Any] = {
        "kernel_sizes": [kernel],
        "strides": [stride],
        "pad_type": "custom",
        "pad": [before, after],
    }

    def reference(x: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        windows = [range(first, first + kernel) for first in range(-before, size + after - kernel + 1, stride)]
        cells = [x[..., [cell for cell in window if 0 <= cell < size]] for window in windows]
        counts = [part.shape[-1] if exclude else kernel for part in cells]
        return (
            np.stack([part.sum(-1) / count for part, count in zip(cells, counts, strict=True)], -1),
            np.stack([part.max(-1) for part in cells], -1),
            np.stack([np.sqrt((part**2).sum(-1)) for part in cells], -1),
        )

    check(
        lambda mb, x: [
            mb.avg_pool(x=x, exclude_padding_from_average=exclude, **common),
            mb.max_pool(x=x, **common),
            mb.l2_pool(x=x, **common),
        ],
        reference,
        np.random.default_rng(0).standard_normal((2, 3, size)).astype(np.float32),
        target=data.draw(st.sampled_from(["iOS15", "iOS18"])),
    )


def test_lengths_may_be_computed_while_the_program_runs(check: Callable[..., None]) -> None:
    def body(mb: Any, x: Any, y: Any) -> list[Any]:
        numbers = mb.cast(x=y, dtype="int32")
        return [
            mb.reshape(x=x, shape=numbers),
            mb.tile(x=x, reps=numbers),
            mb.pad(x=x, pad=mb.concat(values=[numbers, numbers], axis=0), constant_val=2.0),
            mb.fill(shape=numbers, value=0.5),
        ]

    def reference(x: NDArray[Any], _: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        padded = np.pad(x, [(3, 2), (3, 2)], constant_values=2)
        return x.reshape(3, 2), np.tile(x, (3, 2)), padded, np.full((3, 2), 0.5)

    check(body, reference, np.arange(6, dtype=np.float32).reshape(2, 3), np.array([3, 2], np.float32))


@pytest.mark.parametrize("op", ["reduce_argmax", "reduce_argmin"])
def test_indices_may_be_short_integers(op: str, save_program: Callable[..., Path]) -> None:
    path = save_program(lambda mb, x: getattr(mb, op)(x=x, axis=0, output_dtype="uint16"), x=(4,))
    program = MilProgram.load(path)
    name = next(operation.outputs[0].name for operation in program.program.operations if operation.kind == op)
    result = program.predict({"x": np.array([2, 9, -1, 3], np.float32)}, [name])[name]
    assert (str(result.dtype), result.item()) == ("uint16", {"reduce_argmax": 1, "reduce_argmin": 2}[op])
