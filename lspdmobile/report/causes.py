"""The likeliest cause of every artifact that failed: what a report says first."""

from lspdmobile.choices import Verdict
from lspdmobile.report.schema import ArtifactEntry, Report
from lspdmobile.report.tables import percent

__all__ = ["cause_lines", "likeliest_cause"]


def cause_lines(report: Report) -> list[str]:
    """Give a line for each kind of cause: the artifacts it is of, then what is wrong, as seen in the first of them."""
    alike: dict[str, list[ArtifactEntry]] = {}
    for artifact in report.artifacts:
        if artifact.verdict is Verdict.FAIL:
            alike.setdefault(artifact.diagnosis.cause if artifact.diagnosis else _told(artifact), []).append(artifact)
    return [f"{', '.join(each.label for each in group)}: {_told(group[0])}" for group in alike.values()]


def likeliest_cause(report: Report) -> str | None:
    """Give all causes in one line; None where no artifact failed."""
    return "; ".join(cause_lines(report)) or None


def _told(artifact: ArtifactEntry) -> str:
    found = artifact.diagnosis
    if found is None:
        return next(iter(artifact.reasons), "no reason was given")
    share = f" (explains {percent(found.explained)} of the difference)" if found.explained is not None else ""
    return f"{found.sentence}{share}"
