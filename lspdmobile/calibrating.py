"""Calibration of a run: a pass over the pictures gives a network's ranges, their hash and facts for the doctor."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch import nn

from lspdmobile.choices import Estimator, Precision
from lspdmobile.data.views import ViewFiles, Views, started_digest
from lspdmobile.measuring import Progress
from lspdmobile.report.calibration import CalibrationEntry, FindingEntry
from quantization.calibrate import Calibration, observe
from quantization.doctor import diagnose, refuse_meaningless
from quantization.examination import Examination
from quantization.plan import Estimation, QuantizationPlan

__all__ = ["CalibrationPictures", "Calibrator"]


class CalibrationPictures:
    """Calibration inputs that are read anew each time they are gone through; only facts about them are kept.

    Attributes:
        views: Where the pictures are.
        examination: Facts of the inputs of the last complete pass.
    """

    def __init__(self, views: ViewFiles) -> None:
        self.views = views
        self.examination = Examination(views.contract)
        self._sha256 = ""

    def __len__(self) -> int:
        return len(self.views)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Read, examine and give each input float32 ``[3, H, W]``.

        Raises:
            BadInputError: A picture cannot be read.
        """
        contract, examination = self.views.contract, Examination(self.views.contract)
        digest = started_digest(self.views.names)
        for name, pixels in zip(self.views.names, self.views, strict=True):
            digest.update(np.ascontiguousarray(pixels).tobytes())
            picture = contract.normalise(pixels)
            examination.see(picture, name)
            yield picture
        self.examination, self._sha256 = examination, digest.hexdigest()

    def sha256(self) -> str:
        """Hash the names and pixels in order; reads the pictures if that has not been done yet."""
        if not self._sha256:
            for _ in self:
                pass
        return self._sha256


class Calibrator:
    """Calibrates networks on one set of pictures, each network once, and says what is wrong with the pictures."""

    def __init__(self, pictures: CalibrationPictures, estimator: Estimator, progress: Progress) -> None:
        self._pictures = pictures
        self._estimation = Estimation(estimator=estimator)
        self._progress = progress
        self._known: list[tuple[nn.Module, Calibration]] = []

    def plan(self, network: nn.Module, precision: Precision) -> QuantizationPlan:
        """Plan a precision of a fused network in eval mode; precisions that need ranges share what was observed.

        Raises:
            BadInputError: The pictures or the network's values over them are not finite.
        """
        if not precision.is_static_integer:
            return QuantizationPlan(precision=precision)
        known = next((calibration for each, calibration in self._known if each is network), None)
        if known is None:
            known = self._observed(network)
            self._known.append((network, known))
        return known.plan(precision)

    def entry(self, evaluation: Views) -> CalibrationEntry | None:
        """Examine the pictures beside those that are judged on; None where nothing was calibrated.

        Raises:
            BadInputError: A picture cannot be read, or calibration on these pictures means nothing.
        """
        self._pictures.sha256()  # where no network was calibrated, an unreadable picture is found here, not at the end
        if not self._known:
            return None
        judged_on = Examination(evaluation.contract)
        for name, pixels in zip(evaluation.names, evaluation.pixels, strict=True):
            judged_on.see(evaluation.contract.normalise(pixels), name)
        findings = diagnose(self._pictures.examination, evaluation=judged_on, calibration=self._known[0][1])
        refuse_meaningless(findings)
        return CalibrationEntry(
            pictures=len(self._pictures),
            source=self._pictures.views.source,
            estimator=self._estimation.estimator,
            findings=tuple(FindingEntry(**vars(finding)) for finding in findings),
        )

    def _observed(self, network: nn.Module) -> Calibration:
        self._progress("calibrate", 0, len(self._pictures))
        return observe(
            network,
            self._pictures,
            estimation=self._estimation,
            progress=lambda done, total: self._progress("calibrate", done, total),
        )
