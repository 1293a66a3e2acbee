"""Files as each tool makes them by default, on the network as it was trained.

Nothing of ours is in the files: batch norms are folded by the tool, every branch is kept, ranges are what the tool's
own observers find on the same calibration pictures. Two things are set: input and output stay float32 where the tool
would quantize them too, which adds rounding, and Core ML's deployment target is the lowest that takes the precision.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

__all__ = ["DEFAULTS", "FLOATS", "quantized_litert"]

Array = NDArray[np.float32]
Maker = Callable[[nn.Module, Array, Path], None]


def litert(network: nn.Module, pictures: Array, path: Path) -> None:
    """ai-edge-quantizer's recipe ``static_wi8_ai8`` with its own calibration."""
    quantized_litert(_litert(network, pictures), pictures, path)


def quantized_litert(content: bytes, pictures: Array, path: Path) -> None:
    """Quantize a float file so."""
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import recipe
    from ai_edge_quantizer.quantizer import Quantizer

    steps = recipe.static_wi8_ai8()
    for border in ("INPUT", "OUTPUT"):
        steps.append({"regex": ".*", "operation": border, "algorithm_key": "no_quantize", "op_config": {}})
    quantizer = Quantizer(content, steps)
    ((signature, borders),) = Interpreter(model_content=content).get_signature_list().items()
    samples = [{borders["inputs"][0]: picture.transpose(1, 2, 0)[None]} for picture in pictures]
    found = quantizer.calibrate({signature: samples}, num_threads=1)
    result = quantizer.quantize(found, enable_progress_bar=False, enable_progress_report=False)
    path.write_bytes(bytes(result.quantized_model))


def executorch(network: nn.Module, pictures: Array, path: Path) -> None:
    """The XNNPACK quantizer's symmetric per-channel configuration, as its documentation shows it."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )

    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    module = _quantized(network, pictures, quantizer)
    path.write_bytes(_lowered(module, pictures))


def coreml_w8a8(network: nn.Module, pictures: Array, path: Path) -> None:
    """Core ML Tools' PT2E quantizer with its default configuration.

    Core ML Tools' own copy imports modules that PyTorch no longer has; ExecuTorch keeps one that works.
    """
    from coremltools.optimize.torch.quantization import LinearQuantizerConfig
    from executorch.backends.apple.coreml.quantizer import CoreMLQuantizer

    quantizer = CoreMLQuantizer(LinearQuantizerConfig.from_dict({"global_config": {}}))
    _core_ml(_quantized(network, pictures, quantizer), pictures).save(str(path))


def coreml_w8(network: nn.Module, pictures: Array, path: Path) -> None:
    """Core ML Tools' 8-bit weights with its default configuration."""
    import coremltools.optimize.coreml as optimize

    config = optimize.OptimizationConfig(global_config=optimize.OpLinearQuantizerConfig(mode="linear_symmetric"))
    optimize.linear_quantize_weights(_core_ml(network, pictures), config).save(str(path))


def litert_fp32(network: nn.Module, pictures: Array, path: Path) -> None:
    """litert-torch's converter."""
    path.write_bytes(_litert(network, pictures))


def executorch_fp32(network: nn.Module, pictures: Array, path: Path) -> None:
    """ExecuTorch's lowering to XNNPACK, as its documentation shows it."""
    path.write_bytes(_lowered(network, pictures))


def coreml_fp32(network: nn.Module, pictures: Array, path: Path) -> None:
    """Core ML Tools' converter, told to compute in float32."""
    import coremltools

    _core_ml(network, pictures, compute_precision=coremltools.precision.FLOAT32).save(str(path))


def _litert(network: nn.Module, pictures: Array) -> bytes:
    """Convert with the channels last, as TFLite's kernels want them."""
    import litert_torch

    sample = torch.from_numpy(pictures[:1].transpose(0, 2, 3, 1).copy())
    module = litert_torch.to_channel_last_io(network, args=[0], outputs=[0]).eval()
    content: bytes = litert_torch.convert(module, (sample,)).model_content()
    return content


def _lowered(module: nn.Module, pictures: Array) -> bytes:
    """Export and hand to XNNPACK what it takes."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    exported = torch.export.export(module, (torch.from_numpy(pictures[:1]),))
    lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    return bytes(lowered.to_executorch().buffer)


def _quantized(network: nn.Module, pictures: Array, quantizer: Any) -> nn.Module:
    """Observe the pictures and convert, as PyTorch's tutorial does."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    exported = torch.export.export(network, (torch.from_numpy(pictures[:1]),)).module(check_guards=False)
    prepared = prepare_pt2e(exported, quantizer)
    with torch.no_grad():
        for picture in pictures:
            prepared(torch.from_numpy(picture[None]))
    converted: nn.Module = convert_pt2e(prepared)
    return converted


def _core_ml(network: nn.Module, pictures: Array, **more: Any) -> Any:
    import coremltools

    with torch.no_grad():
        exported = torch.export.export(network, (torch.from_numpy(pictures[:1]),)).run_decompositions({})
    return coremltools.convert(
        exported,
        convert_to="mlprogram",
        minimum_deployment_target=coremltools.target.iOS17,
        inputs=[coremltools.TensorType(name="input", shape=pictures[:1].shape, dtype=np.float32)],
        outputs=[coremltools.TensorType(name="heatmaps", dtype=np.float32)],
        skip_model_load=True,
        **more,
    )


DEFAULTS: Final[dict[str, tuple[str, Maker]]] = {
    "ai-edge-quantizer static_wi8_ai8": (".tflite", litert),
    "XNNPACK quantizer, per channel": (".pte", executorch),
    "Core ML Tools, PT2E w8a8": (".mlpackage", coreml_w8a8),
    "Core ML Tools, 8-bit weights": (".mlpackage", coreml_w8),
}
"""Name to the file's suffix and what writes it; int8, and 8-bit weights."""

FLOATS: Final[dict[str, Maker]] = {".tflite": litert_fp32, ".pte": executorch_fp32, ".mlpackage": coreml_fp32}
"""The file's suffix to what writes it in float32."""
