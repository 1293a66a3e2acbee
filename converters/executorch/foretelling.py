"""What XNNPACK will take of a network, told by the rules before anything is lowered."""

from typing import TYPE_CHECKING, Final

from converters.executorch.rules import XNNPACK
from converters.traced import base_name, traced_operators
from lspdmobile.choices import Precision
from lspdmobile.delegation import Delegation, forecast

if TYPE_CHECKING:
    from torch import nn

__all__ = ["foretell"]

_WHOLE: Final = frozenset(
    ("linear", "elu", "max_pool2d", "upsample_bilinear2d", "hardswish", "prelu", "avg_pool2d", "hardtanh", "gelu")
)
"""What the partitioner asks not to be taken apart, and what the core set keeps."""
_FREE: Final = frozenset(("alias", "clone", "detach", "dropout", "contiguous", "_assert_tensor_metadata"))
"""What the compiler removes, or XNNPACK takes as a copy."""


def foretell(network: "nn.Module", input_size: tuple[int, int], precision: Precision) -> Delegation:  # noqa: ARG001
    """Foretell the partition of a ``.pte`` for XNNPACK; operators are ATen's, so that their number is not the file's.

    Args:
        network: Fused, in eval mode; maps ``[1, 3, H, W]`` to heatmaps.
        input_size: Rows and columns H, W.
        precision: Changes nothing: what has no integer form in XNNPACK computes in float there.
    """
    traced = traced_operators(network, input_size, whole=_WHOLE)
    working = [each for each in traced if base_name(each.kind) not in _FREE]
    return forecast(working, XNNPACK, delegate="XNNPACK", target="executorch-xnnpack")
