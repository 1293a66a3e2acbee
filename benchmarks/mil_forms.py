"""A network as a Core ML package in each form, and how far the MIL executor's output is from PyTorch's.

========= ============================================================== ==============================================
form      package                                                        reference
========= ============================================================== ==============================================
fp32      float32 weights and arithmetic                                 PyTorch in float64
fp16      float16 weights and arithmetic                                 PyTorch in float64
w8        int8 weights per channel, ``linear_quantize_weights``          PyTorch in float64, with the package's weights
p6        6-bit palettes, evenly spaced, ``palettize_weights``           PyTorch in float64, with the package's weights
p4        4-bit palettes, k-means, ``palettize_weights``                 PyTorch in float64, with the package's weights
w8a8      PT2E int8 grids of ExecuTorch's XNNPACK quantizer              the PT2E module in PyTorch
========= ============================================================== ==============================================

The compressed forms are in float32 arithmetic, so that nothing hides behind float16's rounding. Their weights, as Core
ML Tools itself decompresses them, are put into the PyTorch network.

Distances are ``|found - reference| / |reference|`` in the Euclidean norm over all pictures. The bounds follow from what
is being compared, not from what was found:

* PyTorch itself, in the arithmetic of the package (float32, or float16 weights and results), is at some distance from
  its own float64 result: rounding, amplified by that network. The executor rounds as often but not in the same places
  (Core ML Tools folds and merges), so it may be ``ROUNDINGS`` times as far.
* In w8a8 both sides do the same arithmetic on the same grids, yet a sum that lies half way between two steps may be
  rounded either way, and one such step changes what follows. The result is then another, equally good rounding of the
  same float network: it may be as far as the PT2E module is from the float network, and no farther.
"""

import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.graphs import dequantize_scalars, exported, folded
from benchmarks.networks import Network, pictures
from converters.coreml.mil import MilProgram

if TYPE_CHECKING:
    from torch.fx import GraphModule

__all__ = ["FORMS", "ROUNDINGS", "Distance", "Subject", "executed"]

FORMS: Final = ("fp32", "fp16", "w8", "p6", "p4", "w8a8")
ROUNDINGS: Final = 3.0
_PICTURES: Final = 4
_SMALLEST_COMPRESSED: Final = 512
"""Weights of fewer elements are left alone; Core ML Tools' own default, 2048, would spare whole mobile layers."""


@dataclass(frozen=True, kw_only=True)
class Distance:
    """How far the executor is from the reference.

    Attributes:
        found: Relative distance.
        allowed: The bound.
        pictures: Relative distance between the reference's outputs for different pictures: a bound near it would say
            nothing.
        differing: Fraction of the elements that are not equal bit for bit.
    """

    found: float
    allowed: float
    pictures: float
    differing: float

    @property
    def holds(self) -> bool:
        """Whether the executor is within the bound, and the bound says something."""
        return self.found <= self.allowed < self.pictures


class Subject:
    """A network with its pictures, packages and references."""

    def __init__(self, network: Network) -> None:
        self.network = network.build()
        self.pictures = pictures(network, count=_PICTURES, seed=1)
        self._packages: dict[str, Any] = {}

    def package(self, form: str) -> Any:
        """Give Core ML Tools' model of a form; not saved."""
        if form not in self._packages:
            self._packages[form] = self._made(form)
        return self._packages[form]

    def distance(self, form: str, found: Tensor) -> Distance:
        """Judge what the executor made of the package of a form."""
        if form == "w8a8":
            reference = _each(self._pt2e, self.pictures)
            allowed = _distance(reference, self._float32)
        else:
            network = self.network if form.startswith("fp") else self._with_weights_of(self.package(form))
            reference = _each(copy.deepcopy(network).double(), self.pictures.double())
            kind = torch.float16 if form == "fp16" else torch.float32
            allowed = ROUNDINGS * _distance(_each(copy.deepcopy(network).to(kind), self.pictures.to(kind)), reference)
        return Distance(
            found=_distance(found, reference),
            allowed=allowed,
            pictures=_distance(reference.roll(1, 0), reference),
            differing=float((found != reference.float()).double().mean()),
        )

    @property
    def _picture(self) -> Tensor:
        return self.pictures[:1]

    def _made(self, form: str) -> Any:
        if form == "w8a8":
            return _converted(self._pt2e, self._picture)
        if form.startswith("fp"):
            return _converted(self.network, self._picture, half=form == "fp16")
        return _compressed(self.package("fp32"), form)

    @cached_property
    def _float32(self) -> Tensor:
        return _each(self.network, self.pictures)

    @cached_property
    def _pt2e(self) -> nn.Module:
        from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
            XNNPACKQuantizer,
            get_symmetric_quantization_config,
        )
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
        prepared = prepare_pt2e(exported(self.network, self._picture).module(check_guards=False), quantizer)
        _each(prepared, self.pictures)
        module: GraphModule = convert_pt2e(prepared)
        dequantize_scalars(module)
        return module

    def _with_weights_of(self, model: Any) -> nn.Module:
        """Give the network in PyTorch with the weights that a compressed package decompresses to.

        Each of the package's weights takes the place of the parameter that it is an approximation of.

        Raises:
            ValueError: There is none.
        """
        module = folded(self.network, self._picture)
        read = {node.target for node in module.graph.nodes if node.op == "get_attr"}
        left = {name: value for name, value in module.named_parameters() if name in read}
        for name, weight in _decompressed(model).items():
            alike = {key: _distance(weight, value) for key, value in left.items() if value.shape == weight.shape}
            nearest = min(alike, key=alike.__getitem__, default="")
            if not nearest or alike[nearest] > 0.5:
                message = f"no parameter of the network is near the package's weight {name} {list(weight.shape)}"
                raise ValueError(message)
            left.pop(nearest).data.copy_(weight)
        return module


def executed(path: Path, pictures: Tensor) -> Tensor:
    """Run a saved package on pictures ``[N, 3, H, W]``, one by one."""
    program = MilProgram.load(path)
    outputs = [program.predict({"input": picture[None].numpy()})["output"] for picture in pictures]
    return torch.from_numpy(np.stack(outputs))


def _each(network: nn.Module, pictures: Tensor) -> Tensor:
    """Run a network on pictures one by one, as packages do."""
    with torch.no_grad():
        return torch.stack([network(picture[None]) for picture in pictures])


def _distance(found: Tensor, reference: Tensor) -> float:
    found, reference = found.double(), reference.double()
    return float((found - reference).norm() / reference.norm())


def _converted(network: nn.Module, picture: Tensor, *, half: bool = False) -> Any:
    import coremltools as ct

    program = exported(network, picture).run_decompositions({})
    for node in program.graph.nodes:
        if node.target is torch.ops.aten.hardtanh.default:
            # relu6 is decomposed into one with integer limits, of which Core ML Tools 9.0 makes an invalid clip.
            node.args = (node.args[0], *(float(limit) for limit in node.args[1:]))
    return ct.convert(
        program,
        minimum_deployment_target=ct.target.iOS17,
        compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
        inputs=[ct.TensorType(name="input", shape=tuple(picture.shape), dtype=np.float32)],
        outputs=[ct.TensorType(name="output", dtype=np.float32)],
        skip_model_load=True,
    )


def _compressed(model: Any, form: str) -> Any:
    from coremltools.optimize import coreml as compression

    least = {"weight_threshold": _SMALLEST_COMPRESSED}
    if form == "w8":
        linear = compression.OpLinearQuantizerConfig(mode="linear_symmetric", **least)
        return compression.linear_quantize_weights(model, compression.OptimizationConfig(global_config=linear))
    # k-means takes minutes for 64 entries.
    palette = compression.OpPalettizerConfig(mode="kmeans" if form == "p4" else "uniform", nbits=int(form[1:]), **least)
    return compression.palettize_weights(model, compression.OptimizationConfig(global_config=palette))


def _decompressed(model: Any) -> dict[str, Tensor]:
    """Give the compressed weights of a model as Core ML Tools decompresses them, by name."""
    from coremltools.optimize.coreml import decompress_weights

    names = {
        operation.outputs[0].name
        for operation in model._mil_program.functions["main"].operations
        if operation.op_type.startswith("constexpr")
    }
    plain = decompress_weights(model)._mil_program.functions["main"].operations
    weights = {each.outputs[0].name: each.outputs[0].val for each in plain if each.outputs[0].name in names}
    if not names or set(weights) != names:
        message = f"{len(names)} compressed weights, {len(weights)} of them found decompressed"
        raise ValueError(message)
    return {name: torch.from_numpy(np.array(weight)) for name, weight in weights.items()}
