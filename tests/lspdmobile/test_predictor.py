"""Predictors: pictures in, keypoints in picture pixels out; artifacts say how they are to be used, or are refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lspdmobile.choices import Format
from lspdmobile.data.views import load_views
from lspdmobile.decode import decode
from lspdmobile.errors import BadInputError
from lspdmobile.networks.lspd import LspdConfig, LspdStudent
from lspdmobile.predictor import Predictor, converter_of, open_predictor, usage_of
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.skeleton import LSP_14, MPII_16
from lspdmobile.student import Student, save_student

CONTRACT = PreprocessContract(input_size=(64, 64), heatmap_stride=8)
METADATA = {
    "preprocess": json.dumps(CONTRACT.to_dict()),
    "skeleton": json.dumps({"name": "mpii-16"}),
    "decode_rule": "quarter",
}
Maps = NDArray[np.float32]


@pytest.fixture
def checkpoint(tiny_config: LspdConfig, tiny_student: LspdStudent, tmp_path: Path) -> Path:
    student = Student(name="tiny", network=tiny_student, config=tiny_config, contract=CONTRACT, skeleton=LSP_14)
    save_student(student, tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


def test_a_float_student_gives_its_decoded_heatmaps_in_picture_pixels(
    checkpoint: Path, tiny_student: LspdStudent, pictures: Path
) -> None:
    predictor = open_predictor(str(checkpoint))
    views = load_views(pictures, predictor.contract, predictor.skeleton)
    told: list[tuple[int, int]] = []
    found = predictor.keypoints(views, progress=lambda done, total: told.append((done, total)))
    with torch.no_grad():
        heatmaps = tiny_student(torch.from_numpy(views.inputs())).numpy()
    expected = views.to_pictures(decode(heatmaps, contract=CONTRACT, rule="dark"))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
    assert told == [(3, 3)]
    assert predictor.name == f"tiny (PyTorch {torch.__version__})"


def bright(inputs: Maps) -> Maps:
    """Heatmaps of something that sees joint 0, a right ankle, at the brightest pixel, and knows left from right.

    On a mirrored picture (brighter at its right edge) the ankle is a left one.
    """
    grey = inputs.mean(axis=1).reshape(len(inputs), 8, 8, 8, 8).mean(axis=(2, 4))
    mirrored = grey[:, :, -1].sum(axis=1) > grey[:, :, 0].sum(axis=1)
    maps = np.zeros((len(inputs), 14, 8, 8), np.float32)
    for i, picture in enumerate(grey):
        maps[i, LSP_14.flip[0] if mirrored[i] else 0] = picture
    return maps


def test_the_flip_test_averages_with_the_mirrored_picture(tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :8] = 60
    pixels[16:24, 40:48] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    predictor = Predictor(name="bright", heatmaps=bright, contract=CONTRACT, skeleton=LSP_14, decode_rule="quarter")
    views = load_views(tmp_path, CONTRACT, LSP_14)
    plain, flipped = (predictor.keypoints(views, flip_test=on)[0] for on in (False, True))
    assert plain[0, :2].tolist() == pytest.approx((44, 20), abs=2)
    np.testing.assert_allclose(flipped, plain, atol=1e-4)
    # Without exchanged sides the mirrored half would be lost, and half the score with it.
    sides = replace(LSP_14, keypoints=tuple(f"joint_{k}" for k in range(14)))
    mixed = replace(predictor, skeleton=sides).keypoints(views, flip_test=True)[0]
    assert mixed[0, 2] == pytest.approx(plain[0, 2] / 2, rel=1e-4)


def test_many_views_are_run_in_batches(tmp_path: Path) -> None:
    sizes: list[int] = []

    def heatmaps(inputs: Maps) -> Maps:
        sizes.append(len(inputs))
        return bright(inputs)

    from PIL import Image

    for i in range(19):
        Image.new("L", (64, 64), i).save(tmp_path / f"{i:02d}.png")
    predictor = Predictor(name="x", heatmaps=heatmaps, contract=CONTRACT, skeleton=LSP_14, decode_rule="dark")
    assert predictor.keypoints(load_views(tmp_path, CONTRACT, LSP_14)).shape == (19, 14, 3)
    assert sizes == [8, 8, 3]


@pytest.mark.parametrize(
    ("name", "form"),
    [("a.mlpackage", Format.COREML), ("a.tflite", Format.TFLITE), ("a.pte", Format.EXECUTORCH)],
)
def test_the_suffix_says_the_format(name: str, form: Format) -> None:
    known = converter_of(Path(name))
    assert known is not None
    assert known[0] is form


@pytest.mark.parametrize("name", ["a.safetensors", "lspd-s", "tflite", "a.tflite.zip"])
def test_anything_else_is_no_artifact(name: str) -> None:
    assert converter_of(Path(name)) is None


def test_an_artifact_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"a\.tflite: no such artifact"):
        open_predictor(str(tmp_path / "a.tflite"))


def test_an_artifact_is_used_as_its_metadata_says() -> None:
    assert usage_of(Path("a.tflite"), METADATA) == (CONTRACT, MPII_16, "quarter")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("preprocess", None, "does not carry its preprocess contract"),
        ("skeleton", None, "does not carry its preprocess contract"),
        ("decode_rule", None, "does not carry its preprocess contract"),
        ("preprocess", "{", "does not carry its preprocess contract"),
        ("preprocess", "[]", "does not carry its preprocess contract"),
        ("preprocess", '{"input_size": [64, 64]}', "heatmap_stride"),
        ("skeleton", "3", "does not carry its preprocess contract"),
        ("skeleton", '{"name": "lsp"}', "unknown skeleton 'lsp'"),
        ("skeleton", '{"name": []}', "does not carry its preprocess contract"),
        ("decode_rule", "argmax", "unknown decode rule 'argmax'"),
    ],
)
def test_an_artifact_that_does_not_say_how_it_is_used_is_refused(key: str, value: str | None, said: str) -> None:
    metadata = {k: v for k, v in METADATA.items() if k != key}
    if value is not None:
        metadata[key] = value
    with pytest.raises(BadInputError, match=r"^a\.tflite: ") as caught:
        usage_of(Path("a.tflite"), metadata)
    assert said in str(caught.value)
