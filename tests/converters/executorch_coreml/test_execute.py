import copy
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from converters import FORMATS, comparison, coreml, executorch_coreml, tflite
from converters.executorch_coreml.inspect import inspect
from lspdmobile import __version__
from lspdmobile.artifact import Artifact
from lspdmobile.choices import Backend, Format, Precision
from lspdmobile.errors import BadInputError, ConversionError

if TYPE_CHECKING:
    from tests.converters.executorch_coreml.conftest import Files, Refile, Repack, World

Emitted = Mapping[Precision, Artifact]
Lower = Callable[..., Path]

off_a_mac = pytest.mark.skipif(sys.platform == "darwin", reason="on macOS ExecuTorch itself runs the file")


class Doubled(nn.Module):
    """Two outputs."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``[1, 3, H, W]`` to the same shape, twice."""
        return x.relu(), 2 * x


@off_a_mac
@pytest.mark.parametrize(
    ("precision", "low", "high"),
    # Rounding to 11 bits over some ten layers; 8 bits per weight; 8 bits per weight and activation.
    [
        (Precision.FP32, 0.0, 1e-5),
        (Precision.FP16, 1e-5, 5e-3),
        (Precision.W8, 5e-4, 0.05),
        (Precision.W8A8, 5e-3, 0.15),
    ],
)
def test_the_file_gives_the_networks_heatmaps_up_to_its_precision(
    world: "World", emitted: Emitted, precision: Precision, low: float, high: float
) -> None:
    found = executorch_coreml.open_executor(emitted[precision].path).heatmaps(world.pictures)
    assert found.dtype == np.float32
    assert found.shape == world.heatmaps.shape
    assert low <= world.error(found) < high


@off_a_mac
def test_the_name_says_what_really_ran(emitted: Emitted) -> None:
    names = {p: executorch_coreml.open_executor(a.path).name for p, a in emitted.items()}
    what = "on the Core ML program inside the .pte"
    assert names[Precision.FP32] == f"MIL executor {__version__} (fp32; not the Neural Engine) {what}"
    assert names[Precision.FP16] == f"MIL executor {__version__} (emulated fp16; not the Neural Engine) {what}"


@pytest.mark.skipif(sys.platform != "darwin", reason="ExecuTorch's Core ML backend runs on macOS only")
def test_on_a_mac_executorch_runs_it(world: "World", emitted: Emitted) -> None:
    executor = executorch_coreml.open_executor(emitted[Precision.FP32].path)
    assert executor.name.endswith("(CoreMLBackend)")
    assert world.error(executor.heatmaps(world.pictures)) < 1e-2


def test_the_format_opens_it_without_being_told_the_backend(world: "World", emitted: Emitted) -> None:
    path, form = emitted[Precision.FP32].path, FORMATS[Format.EXECUTORCH]
    assert form.inspect(path) == inspect(path)
    assert world.error(form.open_executor(path).heatmaps(world.pictures)) < 1e-2


def test_less_than_one_thread_is_refused(emitted: Emitted) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        executorch_coreml.open_executor(emitted[Precision.FP32].path, threads=0)


@off_a_mac
def test_a_file_of_somebody_else_runs(lower: Lower, block: nn.Module) -> None:
    path = lower(block)
    pictures = torch.randn(2, 3, 16, 24)
    found = FORMATS[Format.EXECUTORCH].open_executor(path).heatmaps(pictures.numpy())
    with torch.inference_mode():
        wanted = block(pictures).numpy()
    # Their default is float16: some rounding has to show.
    assert 1e-6 < np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < 5e-3


@off_a_mac
def test_a_file_delegated_in_part_is_refused_by_the_names_of_its_parts(lower: Lower, block: nn.Module) -> None:
    path = lower(block, skip_ops_for_coreml_delegation=["aten.relu.default"])
    with pytest.raises(ConversionError, match=r"this one is CoreMLBackend x2, aten::relu\.out x1"):
        FORMATS[Format.EXECUTORCH].open_executor(path)


def test_two_outputs_are_refused(lower: Lower) -> None:
    with pytest.raises(BadInputError, match="has 2 outputs"):
        FORMATS[Format.EXECUTORCH].open_executor(lower(Doubled().eval()))


@off_a_mac
def test_a_compiled_model_is_refused_for_what_it_is(emitted: Emitted, refile: "Refile") -> None:
    def compile_it(files: "Files") -> "Files":
        return {"metadata.json": files["metadata.json"], "model.mlmodelc/model.mil": b"program(1.0) {}"}

    path = refile(emitted[Precision.FP16].path, compile_it)
    with pytest.raises(ConversionError, match=r"compiled Core ML model \(model\.mlmodelc\), which only Core ML itself"):
        FORMATS[Format.EXECUTORCH].open_executor(path)


@pytest.mark.parametrize("cut", [1, 40, 5_000])
def test_a_truncated_core_ml_part_is_refused(emitted: Emitted, repack: "Repack", cut: int) -> None:
    path = repack(emitted[Precision.FP16].path, lambda blob: blob[:-cut])
    with pytest.raises(BadInputError, match=r"changed\.pte: its Core ML part is damaged or cut short"):
        FORMATS[Format.EXECUTORCH].open_executor(path)


def test_every_truncation_of_the_file_is_refused(emitted: Emitted, tmp_path: Path) -> None:
    content = emitted[Precision.W8A8].path.read_bytes()
    for share in (0.001, 0.01, 0.1, 0.5, 0.9, 0.99):
        path = tmp_path / "cut.pte"
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(BadInputError):
            FORMATS[Format.EXECUTORCH].open_executor(path)


def test_a_model_shared_by_several_methods_is_refused(emitted: Emitted, repack: "Repack") -> None:
    path = repack(emitted[Precision.FP16].path, lambda _: b'CMJR{"version": 1, "key": "k", "functionName": "forward"}')
    with pytest.raises(ConversionError, match="methods share one Core ML model"):
        FORMATS[Format.EXECUTORCH].open_executor(path)


@pytest.mark.parametrize(
    ("lost", "fault"),
    [
        ("model.mlpackage/Data/com.apple.CoreML/weights/weight.bin", r"changed\.pte, Core ML part, .*weight\.bin"),
        ("model.mlpackage/Data/com.apple.CoreML/model.mlmodel", r"changed\.pte, Core ML part, .*model\.mlmodel"),
        ("metadata.json", "does not name its inputs and outputs"),
    ],
)
def test_a_missing_file_is_named_as_part_of_the_pte(emitted: Emitted, refile: "Refile", lost: str, fault: str) -> None:
    path = refile(emitted[Precision.FP16].path, lambda files: {n: c for n, c in files.items() if n != lost})
    with pytest.raises(BadInputError, match=fault) as caught:
        FORMATS[Format.EXECUTORCH].open_executor(path)
    assert "/tmp" not in str(caught.value).replace(str(path), "")


def test_a_model_that_is_called_by_other_names_is_refused(emitted: Emitted, refile: "Refile") -> None:
    def rename(files: "Files") -> "Files":
        return {**files, "metadata.json": files["metadata.json"].replace(b'"inputNames": ["', b'"inputNames": ["x')}

    with pytest.raises(BadInputError, match="Core ML part is called with"):
        FORMATS[Format.EXECUTORCH].open_executor(refile(emitted[Precision.FP16].path, rename))


@off_a_mac
def test_a_model_of_another_size_is_refused(lower: Lower, block: nn.Module, emitted: Emitted, repack: "Repack") -> None:
    from converters.executorch.program import read_program

    other = read_program(lower(block)).backend_delegate_data[0].data
    with pytest.raises(BadInputError, match=r"hands over .*64, 64.*, but its Core ML part has .*16, 24"):
        FORMATS[Format.EXECUTORCH].open_executor(repack(emitted[Precision.FP16].path, lambda _: bytes(other)))


@pytest.mark.parametrize("precision", [Precision.W8, Precision.W8A8])
def test_what_is_inside_is_what_its_plan_says_and_not_what_another_says(
    world: "World", emitted: Emitted, precision: Precision
) -> None:
    request = world.request(precision, "compared.pte")
    path, pictures = emitted[precision].path, world.pictures[:1]
    compare = comparison(Format.EXECUTORCH, precision, Backend.COREML)
    assert compare is executorch_coreml.deviation
    found = compare(path, network=request.network, plan=request.plan, pictures=pictures)
    assert (found.faults, found.steps < 0.05, found.heatmaps < 1e-4) == ((), True, True)
    other = copy.deepcopy(request.network)
    with torch.no_grad():
        next(p for p in other.parameters() if p.dim() == 1).add_(0.5)
    changed = compare(path, network=other, plan=request.plan, pictures=pictures)
    assert max(changed.steps, changed.heatmaps) > 0.02


def test_files_whose_tensors_can_be_had_are_compared_with_their_plans() -> None:
    assert comparison(Format.COREML, Precision.W8A8, None) is coreml.deviation
    assert comparison(Format.COREML, Precision.FP16, None) is None
    assert comparison(Format.EXECUTORCH, Precision.W8A8, Backend.XNNPACK) is None
    assert comparison(Format.TFLITE, Precision.W8A8, None) is tflite.deviation
    assert comparison(Format.TFLITE, Precision.FP32, None) is None
