"""Operations that move, pad or reduce values, one at a time; see ``test_operations``."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

Body = Callable[..., Any]
Reference = Callable[..., Tensor]

_PICTURE = (1, 8, 9, 7)

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
    "slice_by_index": (
        lambda mb, x: mb.slice_by_index(
            x=x,
            begin=[0, 2, 5, -6],
            end=[0, -1, 0, 6],
            stride=[1, 2, 1, 3],
            begin_mask=[True, False, False, False],
            end_mask=[True, False, True, False],
            squeeze_mask=[False, False, False, False],
        ),
        lambda x: x[:, 2:-1:2, 5:, -6:6:3],
        _PICTURE,
    ),
    "slice_by_index squeezed": (
        lambda mb, x: mb.slice_by_index(
            x=x, begin=[0, 2, 0, 0], end=[1, 3, 9, 7], squeeze_mask=[False, True, False, False]
        ),
        lambda x: x[:, 2],
        _PICTURE,
    ),
    "slice_by_size": (
        lambda mb, x: mb.slice_by_size(x=x, begin=[0, 1, 2, 3], size=[1, 4, -1, 2]),
        lambda x: x[:, 1:5, 2:, 3:5],
        _PICTURE,
    ),
    "crop": (lambda mb, x: mb.crop(x=x, crop_height=[1, 2], crop_width=[0, 3]), lambda x: x[..., 1:7, :4], _PICTURE),
    "tile": (lambda mb, x: mb.tile(x=x, reps=[1, 2, 1, 3]), lambda x: x.repeat(1, 2, 1, 3), _PICTURE),
    "flatten2d": (lambda mb, x: mb.flatten2d(x=x, axis=2), lambda x: x.reshape(8, 63), _PICTURE),
    "pixel_shuffle": (lambda mb, x: mb.pixel_shuffle(x=x, upscale_factor=2), lambda x: F.pixel_shuffle(x, 2), _PICTURE),
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
