"""Ranges from pictures: min-max of every float tensor of the network, over all calibration pictures.

Pictures go through one by one and only the running minimum and maximum of each tensor is kept, so memory does not grow
with their number. Tensors are named by their node in the exported program (``quantization.graph.exported_module``);
every emitter maps these names to its own.
"""

import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node

from lspdmobile.choices import Precision
from lspdmobile.errors import BadInputError
from quantization.graph import exported_module
from quantization.plan import QuantizationPlan, TensorRange

__all__ = ["calibrate", "calibration_hash"]


def calibrate(
    network: nn.Module,
    pictures: NDArray[np.float32],
    *,
    precision: Precision,
    progress: Callable[[int, int], None] | None = None,
) -> QuantizationPlan:
    """Give the plan of a precision, with the range of every float tensor where it needs one.

    Args:
        network: Fused float student in eval mode.
        pictures: Normalised inputs float32 ``[M, 3, H, W]``, M at least 1.
        precision: What the artifact will hold; precisions with float activations need no ranges and give an empty plan.
        progress: Called with pictures done and M after each picture.

    Raises:
        BadInputError: There is no picture, or a picture or an activation is not finite.
    """
    if not precision.is_static_integer:
        return QuantizationPlan(precision=precision)
    _check(pictures)
    recorder = _RangeRecorder(exported_module(network, (pictures.shape[2], pictures.shape[3])))
    with torch.inference_mode():
        for index, picture in enumerate(pictures):
            recorder.picture = index
            recorder.run(torch.from_numpy(np.ascontiguousarray(picture[None])))
            if progress is not None:
                progress(index + 1, len(pictures))
    return QuantizationPlan(
        precision=precision,
        ranges={name: TensorRange(low=low, high=high) for name, (low, high) in recorder.ranges.items()},
        calibration=pictures,
        calibration_sha256=calibration_hash(pictures),
    )


def calibration_hash(pictures: NDArray[np.float32]) -> str:
    """Hash calibration inputs ``[M, 3, H, W]``: their shape, then their bytes in C order, little-endian."""
    digest = hashlib.sha256("x".join(map(str, pictures.shape)).encode())
    for picture in pictures:
        digest.update(np.ascontiguousarray(picture, "<f4").tobytes())
    return digest.hexdigest()


def _check(pictures: NDArray[np.float32]) -> None:
    if pictures.ndim != 4 or pictures.shape[1] != 3 or pictures.dtype != np.float32:
        message = f"calibration pictures are float32 [M, 3, H, W], not {pictures.dtype} {list(pictures.shape)}"
        raise ValueError(message)
    if len(pictures) == 0:
        message = "no calibration picture: static integer precisions need at least one; pass --calib with pictures"
        raise BadInputError(message)


class _RangeRecorder(Interpreter):
    """Runs an exported module and keeps the smallest and largest value of every float tensor it computes.

    Attributes:
        ranges: Node name to low and high; constants are not recorded.
        picture: Index of the picture that is running, for messages.
    """

    def __init__(self, module: GraphModule) -> None:
        super().__init__(module)
        self.ranges: dict[str, tuple[float, float]] = {}
        self.picture = 0

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if n.op in ("placeholder", "call_function") and isinstance(result, Tensor) and result.is_floating_point():
            self._record(n, result)
        return result

    def _record(self, node: Node, value: Tensor) -> None:
        smallest, largest = torch.aminmax(value)
        low, high = float(smallest), float(largest)
        if not (math.isfinite(low) and math.isfinite(high)):
            where = "the picture itself" if node.op == "placeholder" else f"layer {_layer_of(node)!r} ({node.name})"
            message = (
                f"calibration picture {self.picture}: {where} holds values that are not finite; "
                "check the picture and the checkpoint's weights"
            )
            raise BadInputError(message)
        before = self.ranges.get(node.name, (low, high))
        self.ranges[node.name] = (min(low, before[0]), max(high, before[1]))


def _layer_of(node: Node) -> str:
    """Dotted name of the innermost module a node comes from."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]) if stack and stack[-1][0] else "forward"
