"""What other tools' readers find in a file; ``MetadataDisplayer`` itself where it is installed (docs/formats.md)."""

import json
import zipfile
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from converters import tflite
from converters.tflite.flatbuffer import add_metadata, metadata_buffers, read_model, to_bytes
from converters.tflite.metadata_schema import TABLES, UNIONS, decoded, encoded
from converters.tflite.standard_metadata import JOINTS, NAME, TEXTS, standard_metadata, with_files
from lspdmobile.artifact import Artifact
from lspdmobile.choices import Precision
from lspdmobile.errors import BadInputError

if TYPE_CHECKING:
    from tests.converters.tflite.conftest import World

JOINT_LINES = "tête\ncou\na\nb\nc\n".encode()


def standard(artifact: Artifact) -> dict[str, Any]:
    return decoded(metadata_buffers(read_model(artifact.path))[NAME])


def check_model(found: dict[str, Any]) -> None:
    """What the model as a whole, its picture and its heatmaps have to say, in the official schema's words."""
    assert {key: found[key] for key in ("name", "description", "version", "author", "license")} == {
        "name": "tiny",
        "description": "Finds five joints",
        "version": "0.1.0",
        "author": "somebody",
        "license": "MIT",
    }
    (graph,) = found["subgraph_metadata"]
    ((picture,), (heatmaps,)) = graph["input_tensor_metadata"], graph["output_tensor_metadata"]
    assert (picture["name"], picture["description"]) == ("input", "a person")
    assert (heatmaps["name"], heatmaps["description"]) == ("heatmaps", "five heatmaps")
    assert picture["stats"] == {"max": [2.0, 1.5, 0.875], "min": [-2.0, -0.5, -0.125]}
    assert [each["name"] for each in heatmaps["associated_files"]] == [JOINTS]
    assert [each["name"] for each in found["associated_files"]] == [TEXTS]


def test_a_reader_learns_how_pictures_become_the_input(emitted: dict[Precision, Artifact]) -> None:
    found = standard(emitted[Precision.W8A8])
    check_model(found)
    picture = found["subgraph_metadata"][0]["input_tensor_metadata"][0]
    image = picture["content"]["content_properties"]["ImageProperties"]
    assert image == {"color_space": 1, "default_size": {"width": 64, "height": 64}}
    (unit,) = picture["process_units"]
    scale = unit["options"]["NormalizationOptions"]
    assert scale == {"mean": [127.5, 63.75, 31.875], "std": [63.75, 127.5, 255.0]}
    pixels = np.array([0.0, 51.0, 255.0])
    contract = json.loads(found_texts(emitted[Precision.W8A8])["preprocess"])
    for mean, std, wanted_mean, wanted_std in zip(*scale.values(), contract["mean"], contract["std"], strict=True):
        np.testing.assert_allclose((pixels - mean) / std, (pixels / 255 - wanted_mean) / wanted_std, rtol=1e-6)


def found_texts(artifact: Artifact) -> dict[str, str]:
    with zipfile.ZipFile(artifact.path) as archive:
        texts: dict[str, str] = json.loads(archive.read(TEXTS))
    return texts


def test_the_joints_and_every_entry_are_packed_behind_the_model(
    world: "World", emitted: dict[Precision, Artifact]
) -> None:
    for artifact in emitted.values():
        with zipfile.ZipFile(artifact.path) as archive:
            assert archive.testzip() is None
            assert archive.namelist() == [JOINTS, TEXTS]
            assert archive.read(JOINTS) == JOINT_LINES
            assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert found_texts(artifact) == world.metadata


def test_the_official_reader_agrees(world: "World", emitted: dict[Precision, Artifact]) -> None:
    metadata = pytest.importorskip("tensorflow_lite_support.metadata.python.metadata", exc_type=ImportError)
    content = emitted[Precision.FP16].path.read_bytes()
    displayer = metadata.MetadataDisplayer.with_model_buffer(content)
    assert sorted(displayer.get_packed_associated_file_list()) == [JOINTS, TEXTS]
    assert displayer.get_associated_file_buffer(JOINTS) == JOINT_LINES
    assert json.loads(displayer.get_associated_file_buffer(TEXTS)) == world.metadata
    shown = json.loads(displayer.get_metadata_json())
    check_model(shown)
    picture = shown["subgraph_metadata"][0]["input_tensor_metadata"][0]
    assert picture["content"]["content_properties"]["color_space"] == "RGB"
    assert picture["process_units"][0]["options_type"] == "NormalizationOptions"
    assert picture["process_units"][0]["options"]["std"] == [63.75, 127.5, 255.0]


def test_the_file_says_the_parser_that_the_official_tool_asks_for(emitted: dict[Precision, Artifact]) -> None:
    tool = pytest.importorskip(
        "tensorflow_lite_support.metadata.cc.python._pywrap_metadata_version", exc_type=ImportError
    )
    buffer = metadata_buffers(read_model(emitted[Precision.FP32].path))[NAME]
    assert tool.GetMinimumMetadataParserVersion(buffer) == decoded(buffer)["min_parser_version"]


def test_what_the_official_schema_calls_a_field_is_what_we_call_it() -> None:
    official = pytest.importorskip("tensorflow_lite_support.metadata.metadata_schema_py_generated")
    for table, fields in TABLES.items():
        made = getattr(official, f"{table}T")()
        assert {name.replace("_", "").lower() for name in fields} <= {name.lower() for name in vars(made)}
    for union, members in UNIONS.items():
        numbers = vars(getattr(official, union))
        assert [numbers[member] for member in members] == list(range(1, len(members) + 1))


def test_every_kind_of_field_survives_writing_and_reading() -> None:
    fields = {
        "name": "tête",
        "associated_files": [{"name": "a", "type": 2}, {"name": "b", "locale": "fr"}],
        "subgraph_metadata": [
            {
                "input_tensor_metadata": [
                    {
                        "dimension_names": ["batch", "row"],
                        "content": {
                            "content_properties": {"BoundingBoxProperties": {"index": [0, 1, 4000000000], "type": 3}},
                            "range": {"min": -5, "max": 7},
                        },
                        "process_units": [{"options": {"ScoreThresholdingOptions": {"global_score_threshold": 0.5}}}],
                    },
                    {"content": {"content_properties": {"FeatureProperties": {}}}, "stats": {"max": [0.5, -1.5]}},
                ],
                "output_tensor_metadata": [],
            }
        ],
    }
    assert decoded(encoded(fields)) == fields


def test_damaged_metadata_are_refused_and_do_not_stop_an_inspection(
    world: "World", emitted: dict[Precision, Artifact]
) -> None:
    good = metadata_buffers(read_model(emitted[Precision.FP32].path))[NAME]
    for damaged in (good[:60], good[:8], b"\xff\xff\xff\x7f" + good[4:]):
        with pytest.raises(ValueError, match="TFLite metadata cut short or damaged"):
            decoded(damaged)
    with pytest.raises(ValueError, match="no TFLite metadata"):
        decoded(good[:4] + b"M002" + good[8:])
    model = read_model(emitted[Precision.FP32].path)
    model.metadata = []
    add_metadata(model, {NAME: good[:60], "note": b"plain text"})
    (world.folder / "damaged.tflite").write_bytes(to_bytes(model))
    facts = tflite.inspect(world.folder / "damaged.tflite")
    assert facts.metadata == {"note": "plain text"}
    assert facts.inputs[0].description == ""


def test_a_file_with_a_bgr_contract_does_not_pass_for_rgb(world: "World") -> None:
    contract = json.loads(world.metadata["preprocess"]) | {"colour_order": "bgr"}
    content, _ = standard_metadata(world.metadata | {"preprocess": json.dumps(contract)}, ["heatmaps"])
    picture = decoded(content)["subgraph_metadata"][0]["input_tensor_metadata"][0]
    assert "color_space" not in picture["content"]["content_properties"]["ImageProperties"]


def test_a_contract_that_cannot_be_used_is_refused(world: "World") -> None:
    request = replace(world.request(Precision.FP32, "contract.tflite"), metadata={"preprocess": '{"mean": [0.5]}'})
    with pytest.raises(BadInputError, match="preprocess contract cannot be read"):
        tflite.emit(request)


def test_packing_is_the_same_to_the_byte_whatever_the_order() -> None:
    one = with_files(b"model", {"a": b"1", "b": b"2"})
    assert one == with_files(b"model", {"b": b"2", "a": b"1"})
    assert one.startswith(b"model")
    assert zipfile.ZipFile(BytesIO(one)).read("b") == b"2"
