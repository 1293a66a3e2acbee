"""Adaptively rounded weights in real files: every emitter writes exactly the integers that were chosen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from converters import FORMATS
from lspdmobile.artifact import EmitRequest
from lspdmobile.choices import Format, Precision
from quantization.affine import weight_scales
from quantization.calibrate import calibrate
from quantization.methods.rounding import round_weights
from quantization.methods.rounding_search import RoundingSettings
from quantization.plan import QuantizationPlan

SIZE = (16, 16)
QUICK = RoundingSettings(steps=300, batch=128, samples=2048)
Integers = NDArray[np.int8]

OTHERS_FIRST: Mapping[Format, Callable[[Integers], Integers]] = {
    Format.COREML: lambda weight: weight,
    Format.TFLITE: lambda weight: (
        weight.transpose(1, 2, 3, 0) if weight.shape[1] == 1 else weight.transpose(0, 2, 3, 1)
    ),
    Format.EXECUTORCH: lambda weight: (
        weight.transpose(1, 2, 3, 0) if weight.shape[1] == 1 else weight.transpose(0, 2, 3, 1)
    ),
}
"""The axis order in which each format stores a weight ``[C_out, C_in / groups, rows, columns]``."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A rounded network, and its weights' integers as chosen and as rounding to nearest would have them."""

    network: nn.Module
    plan: QuantizationPlan
    chosen: tuple[Integers, ...]
    nearest: tuple[Integers, ...]


def integers_of(network: nn.Module) -> tuple[Integers, ...]:
    """Round weights to nearest on their grids."""
    weights = [value.numpy() for value in network.state_dict().values() if value.ndim == 4]
    scales = [weight_scales(weight).reshape(-1, 1, 1, 1) for weight in weights]
    return tuple(np.rint(w / s).astype(np.int8) for w, s in zip(weights, scales, strict=True))


@pytest.fixture(scope="module")
def case() -> Case:
    torch.manual_seed(6)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 8, 5, padding=2, groups=8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 1),
        nn.ReLU(),
        nn.Conv2d(12, 6, 3, padding=1),
    ).eval()
    # Neighbouring pixels resemble each other; where inputs are independent, rounding to nearest is the best there is.
    coarse = np.random.default_rng(1).standard_normal((24, 3, 4, 4)).astype(np.float32)
    pictures = np.ascontiguousarray(coarse.repeat(4, axis=2).repeat(4, axis=3))
    plan = calibrate(network, pictures, precision=Precision.W8A8)
    done = round_weights(network, plan, pictures, settings=QUICK)
    return Case(network=done.network, plan=plan, chosen=integers_of(done.network), nearest=integers_of(network))


def content_of(path: Path) -> bytes:
    """Read a file, or all files of a package."""
    return b"".join(each.read_bytes() for each in sorted(path.rglob("*")) if each.is_file()) or path.read_bytes()


@pytest.mark.parametrize(
    ("form", "precision"),
    [
        (Format.TFLITE, Precision.W8A8),
        (Format.TFLITE, Precision.W8),
        (Format.TFLITE, Precision.W8A16),
        (Format.EXECUTORCH, Precision.W8A8),
        (Format.COREML, Precision.W8A8),
        (Format.COREML, Precision.W8),
    ],
)
def test_the_file_holds_the_integers_that_were_chosen(
    case: Case, form: Format, precision: Precision, tmp_path: Path
) -> None:
    converter = FORMATS[form]
    path = tmp_path / f"rounded{converter.SUFFIX}"
    plan = case.plan if precision is Precision.W8A8 else QuantizationPlan(precision=precision, ranges=case.plan.ranges)
    request = EmitRequest(
        network=case.network,
        plan=plan,
        input_size=SIZE,
        layout=converter.supported()[precision],
        metadata={},
        deployment_target="iOS17",
        path=path,
    )
    converter.emit(request)
    content = content_of(path)
    changed = 0
    for chosen, nearest in zip(case.chosen, case.nearest, strict=True):
        assert np.ascontiguousarray(OTHERS_FIRST[form](chosen)).tobytes() in content
        if not np.array_equal(chosen, nearest):
            changed += 1
            assert np.ascontiguousarray(OTHERS_FIRST[form](nearest)).tobytes() not in content
    assert changed >= 2
