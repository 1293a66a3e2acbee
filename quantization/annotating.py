"""Which operators become integer: the XNNPACK quantizer, told what it needs to know."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.fx import Node

from quantization.affine import SMALLEST_SCALE

__all__ = ["clamps_fused", "quantizer_for"]


def quantizer_for(kept_float: Collection[str] = ()) -> Any:
    """Give the XNNPACK quantizer with plain min-max observers and no needless floor under the scales.

    Its stock configuration keeps histograms and floors every scale at 2^-12, which would flatten small heatmap weights.
    Its patterns with batch norm are left out: fused networks have none, and looking for them costs seconds.

    Args:
        kept_float: Names of nodes that are not quantized; of what is fused, one name is enough.
    """
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer
    from torchao.quantization.pt2e import MinMaxObserver, PerChannelMinMaxObserver
    from torchao.quantization.pt2e.quantizer import QuantizationConfig, QuantizationSpec

    activation = QuantizationSpec(
        dtype=torch.int8,
        quant_min=-128,
        quant_max=127,
        qscheme=torch.per_tensor_affine,
        is_dynamic=False,
        observer_or_fake_quant_ctr=MinMaxObserver.with_args(eps=SMALLEST_SCALE),
    )
    weight = QuantizationSpec(
        dtype=torch.int8,
        quant_min=-127,
        quant_max=127,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        is_dynamic=False,
        observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=SMALLEST_SCALE),
    )
    quantizer = XNNPACKQuantizer()
    quantizer.SUPPORTED_PATTERNS = [each for each in quantizer.SUPPORTED_PATTERNS if "bn" not in each.name]
    quantizer.set_global(QuantizationConfig(activation, activation, weight, None, False))
    return quantizer.set_filter_function(lambda node: node.name not in kept_float)


@contextmanager
def clamps_fused() -> Iterator[None]:
    """Let the quantizer see a clamp (ReLU6) after a layer as it sees a ReLU: as a part of it.

    XNNPACK and TFLite compute both with the layer. The quantizer of ExecuTorch 1.4 knows ReLU alone: with it a layer's
    result, most of which a ReLU6 may cut off, has a grid, which can be dozens of times as coarse.
    """
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer_utils as utils

    stock = utils.is_relu_node
    clamps = (torch.ops.aten.hardtanh.default, torch.ops.aten.hardtanh_.default)

    def is_fused(node: Node) -> bool:
        return bool(stock(node)) or (node.op == "call_function" and node.target in clamps)

    utils.is_relu_node = is_fused
    try:
        yield
    finally:
        utils.is_relu_node = stock
