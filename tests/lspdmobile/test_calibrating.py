"""Calibration of a run: pictures are read one by one, each network is observed once, meaningless sets are refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

from lspdmobile.calibrating import CalibrationPictures, Calibrator
from lspdmobile.choices import Estimator, Precision
from lspdmobile.data.bundled import bundled_calibration_pictures
from lspdmobile.data.views import ViewFiles, Views, find_views, load_views
from lspdmobile.errors import BadInputError
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.skeleton import LSP_14
from quantization.calibrate import calibrate, calibration_hash

CONTRACT = PreprocessContract(input_size=(32, 32), heatmap_stride=4)


@pytest.fixture(scope="module")
def files() -> ViewFiles:
    """Twenty bundled pictures, not read."""
    return find_views(bundled_calibration_pictures(), CONTRACT, LSP_14, limit=20)


@pytest.fixture(scope="module")
def views() -> Views:
    """The same, read."""
    return load_views(bundled_calibration_pictures(), CONTRACT, LSP_14, limit=20)


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()


def silent(*_: object) -> None:
    """Take progress and say nothing."""


def test_pictures_are_those_of_the_views_and_hash_alike(files: ViewFiles, views: Views) -> None:
    pictures = CalibrationPictures(files)
    assert len(pictures) == 20
    np.testing.assert_array_equal(np.stack(list(pictures)), views.inputs())
    assert pictures.sha256() == views.sha256()
    assert calibration_hash(pictures) == calibration_hash(views.inputs())


def test_the_hash_of_pictures_that_nobody_read_is_the_same(files: ViewFiles, views: Views) -> None:
    assert CalibrationPictures(files).sha256() == views.sha256()


def test_facts_are_of_a_complete_pass_and_of_one_only(files: ViewFiles) -> None:
    pictures = CalibrationPictures(files)
    next(iter(pictures))
    assert len(pictures.examination) == 0
    for _ in range(2):
        assert len(list(pictures)) == len(pictures.examination) == 20


def test_a_network_is_observed_once_for_all_its_precisions(files: ViewFiles, views: Views) -> None:
    told: list[tuple[str, int, int]] = []
    calibrator = Calibrator(CalibrationPictures(files), Estimator.MSE, lambda *step: told.append(step))
    first, second = network(), network()
    plans = [calibrator.plan(first, precision) for precision in Precision]
    assert [step for step in told if step[1] == 0] == [("calibrate", 0, 20)]
    assert told[-1] == ("calibrate", 20, 20)
    wide = next(plan for plan in plans if plan.precision is Precision.W8A16)
    assert wide.ranges == calibrate(first, views.inputs(), precision=Precision.W8A16).ranges
    calibrator.plan(second, Precision.W8A8)
    assert len([step for step in told if step[1] == 0]) == 2


def test_a_run_without_integer_activations_says_nothing_of_calibration(files: ViewFiles, views: Views) -> None:
    calibrator = Calibrator(CalibrationPictures(files), Estimator.MIN_MAX, silent)
    assert calibrator.plan(network(), Precision.W8).ranges == {}
    assert calibrator.entry(views) is None


def test_an_unreadable_picture_is_found_before_the_long_work_whatever_is_exported(
    files: ViewFiles, views: Views, tmp_path: Path
) -> None:
    (tmp_path / "torn.png").write_bytes(b"not a picture")
    torn = replace(files, files=(*files.files[:-1], tmp_path / "torn.png"))
    with pytest.raises(BadInputError, match="not a readable picture"):
        Calibrator(CalibrationPictures(torn), Estimator.MIN_MAX, silent).entry(views)


def test_findings_go_into_the_entry(files: ViewFiles, views: Views) -> None:
    calibrator = Calibrator(CalibrationPictures(files), Estimator.PERCENTILE, silent)
    calibrator.plan(network(), Precision.W8A8)
    entry = calibrator.entry(views)
    assert entry is not None
    assert (entry.pictures, entry.estimator, entry.source) == (20, Estimator.PERCENTILE, files.source)
    overlap = next(finding for finding in entry.findings if finding.check == "overlap with evaluation")
    assert overlap.severity == "warning"
    assert overlap.where == files.names


def test_one_picture_over_and_over_is_refused(files: ViewFiles, views: Views) -> None:
    same = replace(files, files=files.files[:1] * 5, persons=files.persons[:1] * 5)
    calibrator = Calibrator(CalibrationPictures(same), Estimator.MIN_MAX, silent)
    calibrator.plan(network(), Precision.W8A8)
    with pytest.raises(BadInputError, match="all 5 calibration pictures are the same picture"):
        calibrator.entry(views)


def test_blank_pictures_are_refused(views: Views, tmp_path: Path) -> None:
    for level in range(5):
        Image.new("RGB", (40, 40), (10 * level, 90, 20)).save(tmp_path / f"{level}.png")
    calibrator = Calibrator(CalibrationPictures(find_views(tmp_path, CONTRACT, LSP_14)), Estimator.MIN_MAX, silent)
    calibrator.plan(network(), Precision.W8A8)
    with pytest.raises(BadInputError, match="all 5 calibration pictures are blank"):
        calibrator.entry(views)
