"""The worst pictures: skeletons, heatmaps of the joint that moved, and what lies between them."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from lspdmobile.report.pictures import (
    ARTIFACT_COLOUR,
    FLOAT_COLOUR,
    WorstPicture,
    difference_colours,
    heatmap_colours,
    picture_figures,
)
from lspdmobile.skeleton import LSP_14


@pytest.fixture
def worst() -> WorstPicture:
    points = np.full((14, 3), 50, np.float32)
    before, after = np.zeros((2, 12, 12), np.float32)
    before[3, 2], after[9, 8] = 1.0, 0.5
    return WorstPicture(
        title="tflite w8a8: 1.jpg",
        picture=np.full((96, 96, 3), 128, np.uint8),
        float_keypoints=points,
        artifact_keypoints=points,
        skeleton=LSP_14,
        drift_px=9.0,
        joint="left_wrist",
        heatmaps=(before, after),
    )


def pictures_in(html: str) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    """Decode every inlined picture, by its alternative text."""
    found = re.findall(r'alt="([^"]+)"[^>]*base64,([^"]+)"', html)
    return {alt: np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")) for alt, data in found}


def test_heatmaps_have_their_colour_where_their_peak_is(worst: WorstPicture) -> None:
    shown = pictures_in(picture_figures([worst]))
    name = "tflite w8a8: 1.jpg: heatmap of the left wrist"
    assert list(shown)[1:] == [f"{name}, float", f"{name}, artifact", f"{name}, difference"]
    before, after, between = list(shown.values())[1:]
    assert before.shape == (144, 144, 3), "12 cells, each 12 times as large"
    assert tuple(before[3 * 12 + 5, 2 * 12 + 5]) == FLOAT_COLOUR
    assert tuple(between[3 * 12 + 5, 2 * 12 + 5]) == FLOAT_COLOUR
    assert np.abs(after[9 * 12, 8 * 12].astype(int) - np.add(ARTIFACT_COLOUR, (32, 36, 42)) / 2).max() <= 1
    assert (before[0, 0] == between[0, 0]).all()


def test_the_caption_names_the_joint_that_moved(worst: WorstPicture) -> None:
    assert "<figcaption>tflite w8a8: 1.jpg: left wrist moved by 9.00 px</figcaption>" in picture_figures([worst])


def test_a_picture_of_a_head_without_heatmaps_has_none(worst: WorstPicture) -> None:
    assert len(pictures_in(picture_figures([replace(worst, heatmaps=None)]))) == 1


def test_equal_heatmaps_have_no_difference_and_empty_ones_no_colour() -> None:
    maps = np.random.default_rng(0).random((4, 5), dtype=np.float32)
    zeros = np.zeros((4, 5), np.float32)
    assert len(np.unique(difference_colours(maps, maps).reshape(-1, 3), axis=0)) == 1
    assert len(np.unique(heatmap_colours(zeros, 0.0, FLOAT_COLOUR).reshape(-1, 3), axis=0)) == 1
