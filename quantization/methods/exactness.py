"""Evidence that a network with other weights computes the same, by the measure of fusion's certificate.

Errors are relative to the original in float64. Float32 is what ships: an error of it may be 1e-5, or where the original
itself rounds more (on an input with little signal) twice what the original errs.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from lspdmobile.errors import GateFailedError
from lspdmobile.fusion.certificate import TOLERANCE_FP32, TOLERANCE_FP64
from lspdmobile.fusion.executing import outputs_of
from lspdmobile.fusion.graph import capture, widened
from lspdmobile.fusion.probes import inputs_of_every_kind, relative_error

__all__ = ["Exactness", "certified"]

_TIMES_ROUNDING: Final = 2.0


@dataclass(frozen=True, kw_only=True)
class Exactness:
    """What was compared.

    Attributes:
        fp64: Largest relative error over all inputs, ``max |difference| / max |expected|``, of the same change made
            and run in float64.
        fp32: Largest relative error of what ships.
        rounding: The original's own in float32, likewise.
        inputs: Kinds of input that were tried.
    """

    fp64: float
    fp32: float
    rounding: float
    inputs: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Give what ``plan.json`` holds."""
        return {**asdict(self), "inputs": list(self.inputs)}


def certified(
    before: nn.Module, after: nn.Module, change: Callable[[nn.Module], nn.Module], pictures: Tensor, *, seed: int
) -> Exactness:
    """Run both networks on inputs of every kind, in float64 and in float32.

    Args:
        before: In eval mode; maps ``[1, 3, H, W]`` to heatmaps.
        after: The same with other weights, as it ships.
        change: Makes of a float64 copy of the first what the second was made by.
        pictures: Real inputs ``[M, 3, H, W]`` to try besides.
        seed: Of the made-up inputs.

    Raises:
        GateFailedError: An error is larger than allowed.
    """
    captured = capture(before, (torch.zeros_like(pictures[:1]),))
    wide = widened(captured.module)
    changed = change(wide)
    inputs = inputs_of_every_kind(captured, torch.Generator().manual_seed(seed), pictures)
    fp64, fp32, rounding = dict[str, float](), dict[str, float](), dict[str, float]()
    for kind, (args, keywords) in inputs.items():
        expected, narrow = outputs_of(wide, args, keywords), [each.float() for each in args]
        fp64[kind] = _error(expected, outputs_of(changed, args, keywords))
        fp32[kind] = _error(expected, outputs_of(after, narrow, keywords))
        rounding[kind] = _error(expected, outputs_of(before, narrow, keywords))
        _judge(fp64[kind], TOLERANCE_FP64, "float64", kind)
        _judge(fp32[kind], max(TOLERANCE_FP32, _TIMES_ROUNDING * rounding[kind]), "float32", kind)
    return Exactness(
        fp64=max(fp64.values()), fp32=max(fp32.values()), rounding=max(rounding.values()), inputs=tuple(inputs)
    )


def _error(expected: list[Tensor], found: list[Tensor]) -> float:
    return max(relative_error(one, other.double()) for one, other in zip(expected, found, strict=True))


def _judge(error: float, limit: float, name: str, kind: str) -> None:
    if not error <= limit:
        message = (
            f"the network with other factors differs by {error:.1e} in {name} (input {kind}), more than {limit:.0e}: "
            "it must not ship; leave equalisation out and report this network"
        )
        raise GateFailedError(message)
