"""Prices of targets that cannot be measured here, derived from published latencies; none was checked on a device.

Each is the solution of two equations: two networks with known operator counts and MACs, and their published times.

==================  ======  =======================  ==================  =====================
network             input   MACs, depthwise alone    operators           source of the counts
==================  ======  =======================  ==================  =====================
MobileNet v1 1.0    224     569 M, 17.4 M            28                  arXiv 1704.04861
MobileNet v2 1.0    224     301 M, 20.7 M            63 (10 are adds)    arXiv 1801.04381
ResNet50            224     4089 M, none             70 (16 are adds)    arXiv 1512.03385
==================  ======  =======================  ==================  =====================

**xnnpack-arm, fp32** (one big core of a Pixel 3a: 88 and 55 ms for MobileNet v1 and v2, XNNPACK's README): the price of
a dense and of a depthwise MAC. Additions and pads move 10 GB/s, an assumption. A depthwise kernel of more than 25 taps
costs per MAC as many times a 25-tap kernel's of the same dtype as on the x86-64 machine of the defaults.
**xnnpack-arm, int8**: a MAC costs fp32's divided by 2.7, the ratio of MobileNet v2 on a Raspberry Pi 5 (10.89 and
4.01 ms, Arm's course "ExecuTorch on Arm").

**coreml-ane** (iPhone 15 Pro: 0.49 and 1.38 ms for MobileNet v2 and ResNet50 in float16, 0.20 and 0.77 ms in W8A8;
coremltools guide, opt-quantization-perf): the price of an operator and of a MAC. A depthwise MAC is taken to cost
sixteen dense ones, since one channel feeds one lane, an assumption. An operator that leaves the engine costs a switch
of 50 us, an assumption, and runs at the CPU's prices.

**coreml-cpu** (YOLO26n-pose at 640 on an iPhone 17 Pro: 12.1 ms on the CPU for 3.75 GMACs; Ultralytics' documentation):
the price of a dense MAC; a depthwise one costs as many times more as on xnnpack-arm. int8 saves nothing, and every
element is expanded at the price of an addition's.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from lspdmobile.fusion.kernel_costs import Coefficients, Kind
from lspdmobile.fusion.operations import Dtype

__all__ = ["Profile", "coreml_ane", "coreml_cpu", "xnnpack_arm"]

Profile = Mapping[Dtype, Mapping[Kind, Coefficients]]

_V1_DEPTHWISE, _V1_DENSE = 17.386e6, 551.354e6
_V2_DEPTHWISE, _V2_DENSE, _V2_OPS = 20.716e6, 280.058e6, 63
_R50_DENSE, _R50_OPS = 4089.184e6, 70

_PIXEL_3A_NS: Final = 88e6, 55e6
_PI5_INT8_GAIN: Final = 10.89 / 4.01
_IPHONE_15_PRO_NS: Final[dict[Dtype, tuple[float, float]]] = {"fp32": (0.49e6, 1.38e6), "int8": (0.20e6, 0.77e6)}
_YOLO_CPU_NS_PER_MAC: Final = 12.1e6 / 3.75e9
_BYTES_PER_NS: Final = 10.0
_ANE_DEPTHWISE: Final = 16.0
_SWITCH_US: Final = 50.0
_DENSE_KINDS: Final = (Kind.POINTWISE, Kind.DENSE, Kind.GROUPED)
_DEPTHWISE_KINDS: Final = (Kind.DEPTHWISE_1, Kind.DEPTHWISE_9, Kind.DEPTHWISE_25, Kind.DEPTHWISE_LARGE)
_MOVING_KINDS: Final = (Kind.ADD, Kind.AFFINE, Kind.PAD)


def xnnpack_arm(large_over_tile: Mapping[Dtype, float]) -> Profile:
    """Give the prices of one big ARM core.

    Args:
        large_over_tile: How many times a MAC of a depthwise kernel beyond the tiles costs one of the 25-tap kernel, by
            dtype; taken from a measured machine.
    """
    dense_ns, depthwise_ns = _arm_mac_ns()
    profile: dict[Dtype, Mapping[Kind, Coefficients]] = {}
    gains: dict[Dtype, float] = {"fp32": 1.0, "int8": _PI5_INT8_GAIN}
    for dtype, gain in gains.items():
        prices = {kind: Coefficients(mac_ns=dense_ns / gain) for kind in _DENSE_KINDS}
        prices |= {kind: Coefficients(mac_ns=depthwise_ns / gain) for kind in _DEPTHWISE_KINDS}
        prices[Kind.DEPTHWISE_LARGE] = Coefficients(mac_ns=depthwise_ns / gain * large_over_tile[dtype])
        width = 4 if dtype == "fp32" else 1
        prices |= {kind: Coefficients(element_ns=width / _BYTES_PER_NS) for kind in _MOVING_KINDS}
        prices[Kind.FALLBACK] = Coefficients(op_us=_SWITCH_US, mac_ns=depthwise_ns)
        profile[dtype] = prices
    return profile


def coreml_ane() -> Profile:
    """Give the prices of the Neural Engine of an iPhone 15 Pro."""
    cpu = coreml_cpu()
    profile: dict[Dtype, Mapping[Kind, Coefficients]] = {}
    for dtype, times in _IPHONE_15_PRO_NS.items():
        counts = np.array([[_V2_OPS, _V2_DENSE + _V2_DEPTHWISE], [_R50_OPS, _R50_DENSE]])
        op_ns, mac_ns = (float(price) for price in np.linalg.solve(counts, np.array(times)))
        op_us = op_ns / 1000
        prices = {kind: Coefficients(op_us=op_us, mac_ns=mac_ns) for kind in _DENSE_KINDS}
        prices |= {kind: Coefficients(op_us=op_us, mac_ns=mac_ns * _ANE_DEPTHWISE) for kind in _DEPTHWISE_KINDS}
        prices |= {kind: Coefficients(op_us=op_us) for kind in _MOVING_KINDS}
        slow = cpu[dtype][Kind.DEPTHWISE_LARGE]
        prices[Kind.FALLBACK] = Coefficients(op_us=_SWITCH_US, element_ns=slow.element_ns, mac_ns=slow.mac_ns)
        profile[dtype] = prices
    return profile


def coreml_cpu() -> Profile:
    """Give the prices of the CPU of an iPhone 17 Pro."""
    dense_ns, depthwise_ns = _arm_mac_ns()
    moved = 4 / _BYTES_PER_NS
    profile: dict[Dtype, Mapping[Kind, Coefficients]] = {}
    dtypes: tuple[Dtype, ...] = ("fp32", "int8")
    for dtype in dtypes:
        expanded = moved if dtype == "int8" else 0.0
        prices = {kind: Coefficients(element_ns=expanded, mac_ns=_YOLO_CPU_NS_PER_MAC) for kind in _DENSE_KINDS}
        price = _YOLO_CPU_NS_PER_MAC * depthwise_ns / dense_ns
        prices |= {kind: Coefficients(element_ns=expanded, mac_ns=price) for kind in _DEPTHWISE_KINDS}
        prices |= {kind: Coefficients(element_ns=moved + expanded) for kind in _MOVING_KINDS}
        prices[Kind.FALLBACK] = prices[Kind.DEPTHWISE_LARGE]
        profile[dtype] = prices
    return profile


def _arm_mac_ns() -> tuple[float, float]:
    """Solve for the price of a dense and of a depthwise MAC on one big core of a Pixel 3a."""
    counts = np.array([[_V1_DENSE, _V1_DEPTHWISE], [_V2_DENSE, _V2_DEPTHWISE]])
    dense, depthwise = np.linalg.solve(counts, np.array(_PIXEL_3A_NS))
    return float(dense), float(depthwise)
