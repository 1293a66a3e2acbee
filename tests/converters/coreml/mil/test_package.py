import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters.coreml.mil.package import read_program, specification_path
from lspdmobile.choices import Precision
from lspdmobile.errors import BadInputError, ConversionError

Copied = Callable[[Precision], Path]
Edit = Callable[[Path, Callable[[Any], None]], None]


def _weights(path: Path) -> Path:
    return path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"


def test_a_file_that_is_no_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"not a \.mlpackage"):
        read_program(tmp_path)


def test_a_broken_manifest_is_refused(copied: Copied) -> None:
    path = copied(Precision.FP16)
    (path / "Manifest.json").write_text("{}")
    with pytest.raises(BadInputError, match="package manifest"):
        read_program(path)


def test_a_manifest_that_leads_outside_is_refused(copied: Copied) -> None:
    path = copied(Precision.FP16)
    manifest = path / "Manifest.json"
    content = json.loads(manifest.read_text())
    content["itemInfoEntries"][content["rootModelIdentifier"]]["path"] = "../../elsewhere.mlmodel"
    manifest.write_text(json.dumps(content))
    with pytest.raises(BadInputError, match="outside the package"):
        read_program(path)


def test_a_missing_specification_is_refused(copied: Copied) -> None:
    path = copied(Precision.FP16)
    specification_path(path).unlink()
    with pytest.raises(BadInputError, match="cannot be read"):
        read_program(path)


def test_missing_weights_are_refused(copied: Copied) -> None:
    path = copied(Precision.FP16)
    _weights(path).unlink()
    with pytest.raises(BadInputError, match="weights cannot be read"):
        read_program(path)


def test_weights_outside_the_package_are_refused(copied: Copied, edit: Edit) -> None:
    path = copied(Precision.FP32)

    def escape(model: Any) -> None:
        for operation in _operations(model):
            if operation.attributes["val"].HasField("blobFileValue"):
                operation.attributes["val"].blobFileValue.fileName = "@model_path/../../../secret"

    edit(path, escape)
    with pytest.raises(BadInputError, match="outside the package"):
        read_program(path)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_specification_cut_short_never_reads(kept: float, copied: Copied) -> None:
    file = specification_path(copied(Precision.W8A8))
    raw = file.read_bytes()
    file.write_bytes(raw[: int(len(raw) * kept)])
    with pytest.raises(BadInputError):
        read_program(file.parents[2])


@pytest.mark.parametrize("kept", [0, 30, 64, 100, 0.5, 0.999])
def test_weights_cut_short_never_read(kept: float, copied: Copied) -> None:
    path = copied(Precision.FP32)
    raw = _weights(path).read_bytes()
    _weights(path).write_bytes(raw[: int(kept if kept > 1 else len(raw) * kept)])
    with pytest.raises(BadInputError, match=r"weight\.bin"):
        read_program(path)


@pytest.mark.parametrize(
    ("byte", "complaint"), [(4, "version 2"), (64, "sentinel"), (68, "dtype code"), (72, "it holds"), (81, "cut short")]
)
def test_a_damaged_weight_record_is_refused(byte: int, complaint: str, copied: Copied) -> None:
    path = copied(Precision.FP32)
    raw = bytearray(_weights(path).read_bytes())
    raw[byte + (1 if complaint == "cut short" else 0)] ^= 0x7F
    _weights(path).write_bytes(raw)
    with pytest.raises(BadInputError, match=complaint):
        read_program(path)


def test_an_old_neural_network_is_refused_by_name(copied: Copied, edit: Edit) -> None:
    path = copied(Precision.FP16)
    edit(path, lambda model: model.neuralNetwork.SetInParent())
    with pytest.raises(BadInputError, match="holds a neuralNetwork, not an ML Program"):
        read_program(path)


def test_several_functions_are_refused_by_name(copied: Copied, edit: Edit) -> None:
    path = copied(Precision.FP16)
    edit(path, lambda model: model.mlProgram.functions["second"].CopyFrom(model.mlProgram.functions["main"]))
    with pytest.raises(ConversionError, match=r"multi-function programs are not implemented .*main, second"):
        read_program(path)


def test_states_are_refused_by_name(copied: Copied, edit: Edit) -> None:
    path = copied(Precision.FP16)
    edit(path, lambda model: model.description.state.add(name="cache"))
    with pytest.raises(ConversionError, match=r"stateful programs are not implemented .*'cache'"):
        read_program(path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            lambda d: d.output[0].type.imageType.SetInParent(),
            "'heatmaps' is not a multi-array; other types, and images",
        ),
        (lambda d: d.input[0].type.dictionaryType.SetInParent(), "'input' is not a multi-array"),
        (lambda d: setattr(d.input[0].type.imageType, "colorSpace", 40), "'input' has colour space 40"),
        (lambda d: d.input[0].type.imageType.SetInParent(), "'input' has colour space 0"),
    ],
)
def test_other_types_of_inputs_and_outputs_are_refused_by_name(
    change: Callable[[Any], None], complaint: str, copied: Copied, edit: Edit
) -> None:
    path = copied(Precision.FP16)
    edit(path, lambda model: change(model.description))
    with pytest.raises(ConversionError, match=complaint):
        read_program(path)


def test_control_flow_is_refused_by_name(copied: Copied, edit: Edit) -> None:
    path = copied(Precision.FP16)

    def add_block(model: Any) -> None:
        next(o for o in _operations(model) if o.type == "conv").blocks.add()

    edit(path, add_block)
    with pytest.raises(ConversionError, match=r"conv .*control flow"):
        read_program(path)


def test_an_output_that_nothing_makes_is_refused(copied: Copied, edit: Edit) -> None:
    path = copied(Precision.FP16)

    def rename(model: Any) -> None:
        function = model.mlProgram.functions["main"]
        function.block_specializations[function.opset].outputs[0] = "nothing"

    edit(path, rename)
    with pytest.raises(BadInputError, match="no operation makes the output nothing"):
        read_program(path)


def _operations(model: Any) -> Any:
    function = model.mlProgram.functions["main"]
    return function.block_specializations[function.opset].operations
