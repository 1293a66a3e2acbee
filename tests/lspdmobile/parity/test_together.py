"""The whole parity chain on the bundled labelled pictures: heatmaps, decoding, labels, drop, verdict."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from lspdmobile.choices import Format, Precision, Verdict
from lspdmobile.data.bundled import bundled_pictures
from lspdmobile.data.coco import LabelledSet, read_labelled_set
from lspdmobile.data.pictures import read_picture
from lspdmobile.decode import decode
from lspdmobile.parity import Gate, MetricDrop, TaskMetrics, compare, evaluate, judge, metric_drop
from lspdmobile.preprocess import Crop, PreprocessContract

Maps = NDArray[np.float32]
Draw = Callable[[NDArray[np.float64]], Maps]


@pytest.fixture(scope="module")
def labelled() -> LabelledSet:
    """The first 128 bundled evaluation pictures."""
    bundled = read_labelled_set(bundled_pictures())
    return replace(bundled, persons=bundled.persons[:128])


@pytest.fixture
def crops(labelled: LabelledSet, contract: PreprocessContract) -> list[Crop]:
    """The window of each person."""
    sizes = [read_picture(p.picture).shape for p in labelled.persons]
    return [
        contract.crop_for((size[0], size[1]), keypoints=p.keypoints, box=p.box)
        for p, size in zip(labelled.persons, sizes, strict=True)
    ]


@pytest.fixture
def heatmaps(labelled: LabelledSet, crops: list[Crop], gaussians: Draw) -> Maps:
    """What a student that knows the labels would give."""
    cells = [
        (p.keypoints[:, :2] - (c.x, c.y)) / (c.width, c.height) * 24
        for p, c in zip(labelled.persons, crops, strict=True)
    ]
    return gaussians(np.stack(cells))


def _scores(maps: Maps, labelled: LabelledSet, crops: list[Crop], contract: PreprocessContract) -> TaskMetrics:
    keypoints = decode(maps, contract=contract)
    placed = np.stack([contract.to_picture(k, c) for k, c in zip(keypoints, crops, strict=True)])
    return evaluate(placed, labelled.persons, labelled.skeleton)


def _drop(
    before: Maps, after: Maps, labelled: LabelledSet, crops: list[Crop], contract: PreprocessContract
) -> MetricDrop:
    scores = [_scores(maps, labelled, crops, contract) for maps in (before, after)]
    return metric_drop(scores[0], scores[1], "pck@0.2")


def test_heatmaps_at_the_labels_score_one(
    labelled: LabelledSet, crops: list[Crop], heatmaps: Maps, contract: PreprocessContract
) -> None:
    scores = _scores(heatmaps, labelled, crops, contract)
    assert scores.images == len({p.image_id for p in labelled.persons})
    assert scores.metrics["pck@0.2"] > 0.995
    assert scores.metrics["pckh@0.5"] > 0.99


def test_noise_of_an_integer_network_drops_nothing_and_wants_more_pictures(
    labelled: LabelledSet, crops: list[Crop], heatmaps: Maps, contract: PreprocessContract
) -> None:
    noisy = (heatmaps + np.random.default_rng(0).normal(0, 0.01, heatmaps.shape)).astype(np.float32)
    drop, parity = _drop(heatmaps, noisy, labelled, crops, contract), compare(heatmaps, noisy, contract=contract)
    verdict, reasons = judge(parity, drop, Precision.W8A8, Format.TFLITE)
    assert verdict is Verdict.UNDECIDED, reasons
    assert abs(drop.drop) < 0.5
    wanted = drop.pictures_needed(1.0, 0.95)
    assert wanted is not None
    assert len(labelled.persons) < wanted < 500
    gate = Gate(max_drop=3.0)
    assert judge(parity, drop, Precision.W8A8, Format.TFLITE, gate=gate)[0] is Verdict.PASS


@pytest.mark.parametrize(
    "fault",
    [
        lambda m: m[:, [5, *range(1, 5), 0, *range(6, 14)]],
        lambda m: m[..., ::-1].copy(),
        lambda m: np.where(np.arange(14)[:, None, None] == 13, np.float32(0), m),
    ],
    ids=["ankles swapped", "mirrored", "head top zeroed"],
)
def test_planted_faults_cost_points_and_cells(
    labelled: LabelledSet,
    crops: list[Crop],
    heatmaps: Maps,
    contract: PreprocessContract,
    fault: Callable[[Maps], Maps],
) -> None:
    broken = fault(heatmaps)
    drop = _drop(heatmaps, broken, labelled, crops, contract)
    verdict, reasons = judge(compare(heatmaps, broken, contract=contract), drop, Precision.W8A8, Format.TFLITE)
    assert verdict is Verdict.FAIL
    assert len(reasons) == 2
    assert drop.ci95[0] > 1.0


def test_importing_parity_stays_light() -> None:
    code = "import sys, lspdmobile.parity; print([m for m in ('torch', 'pydantic', 'pycocotools') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
