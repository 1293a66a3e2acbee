"""What ``report.json`` says of the calibration: how many pictures, which estimator, and what is wrong with them."""

from pydantic import Field

from lspdmobile.choices import Estimator
from lspdmobile.report.files import Entry

__all__ = ["CalibrationEntry", "FindingEntry", "calibration_lines"]


class FindingEntry(Entry):
    """One thing the calibration doctor found; see ``quantization.doctor.Finding``."""

    check: str
    severity: str
    what: str
    mend: str
    where: tuple[str, ...] = ()


class CalibrationEntry(Entry):
    """The calibration of a run that has integer activations."""

    pictures: int
    source: str
    estimator: Estimator
    findings: tuple[FindingEntry, ...] = Field(default_factory=tuple)


def calibration_lines(entry: CalibrationEntry | None) -> list[str]:
    """Give one line per finding: ``calibration warning: 3 of 48 calibration pictures ...``."""
    findings = entry.findings if entry is not None else ()
    return [f"calibration {each.severity}: {each.what}; {each.mend}" for each in findings]
