"""The pictures a request names: those that are judged on, and those that calibrate."""

from dataclasses import replace
from pathlib import Path

from lspdmobile.calibrating import CalibrationPictures
from lspdmobile.data.bundled import bundled_calibration_pictures, bundled_pictures
from lspdmobile.data.views import ViewFiles, Views, find_views
from lspdmobile.request import ExportRequest
from lspdmobile.run_folder import BUNDLED

__all__ = ["pictures_of"]


def pictures_of(request: ExportRequest) -> tuple[Views, CalibrationPictures]:
    """Read the evaluation set and find the calibration set.

    Raises:
        BadInputError: Nothing usable is there, or an evaluation picture cannot be read.
    """
    student = request.student

    def views(path: Path, split: str, limit: int | None) -> ViewFiles:
        return find_views(path, student.contract, student.skeleton, split=split, limit=limit, seed=request.seed)

    evaluation_set = views(request.data or bundled_pictures(), "val", request.evaluation_samples)
    calibration_set = views(request.calibration or bundled_calibration_pictures(), "train", request.calibration_samples)
    if request.data is None:
        evaluation_set = replace(evaluation_set, source=BUNDLED)
    if request.calibration is None:
        calibration_set = replace(calibration_set, source=BUNDLED)
    return evaluation_set.read(), CalibrationPictures(calibration_set)
