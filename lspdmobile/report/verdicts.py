"""Why a run was judged as it was and what to do about it, as lines that the page and the Markdown report share."""

from collections.abc import Iterator

from lspdmobile.choices import Format, Precision, Verdict
from lspdmobile.report.schema import ArtifactEntry, Report

__all__ = ["against_lines", "caveat_lines", "counts_line", "next_lines"]


def counts_line(report: Report) -> str:
    """Give how many artifacts passed on how many pictures."""
    passed = sum(a.verdict is Verdict.PASS for a in report.artifacts)
    return f"{passed} of {len(report.artifacts)} artifacts passed on {report.reference.images} pictures"


def against_lines(report: Report) -> list[str]:
    """Give the first reason against each artifact that did not pass."""
    return [
        f"{artifact.label} ({artifact.verdict.value}): {next(iter(artifact.reasons), 'no reason was given')}"
        for artifact in report.artifacts
        if artifact.verdict is not Verdict.PASS
    ]


def caveat_lines(report: Report) -> list[str]:
    """Give each thing that running the artifacts here cannot show, once."""
    return list(dict.fromkeys(a.caveat for a in report.artifacts if a.caveat))


def next_lines(report: Report) -> list[str]:
    """Say what to do next, most pressing first."""
    lines = list(dict.fromkeys(_mend(report)))
    if report.verdict is Verdict.PASS:
        lines.append("Ship the files; lspdmobile verify RUN_DIR repeats this judgement wherever they go.")
    if any(artifact.caveat for artifact in report.artifacts):
        lines.append("Run the Core ML files once on a device or a Mac: here they were run from the file's own words.")
    return lines


def _mend(report: Report) -> Iterator[str]:
    student = report.student.name
    for artifact in report.artifacts:
        if artifact.verdict is Verdict.PASS:
            continue
        if artifact.sha256 is None:
            yield f"{artifact.label} could not be converted: mend what its reason names, then export again."
        elif artifact.verdict is not Verdict.FAIL:
            yield "Judge on more pictures: lspdmobile export with a larger --data set or without a limit on samples."
        elif artifact.diagnosis is not None and artifact.diagnosis.cause.is_mistake:
            yield f"{artifact.label}: mend its likeliest cause ({artifact.diagnosis.cause}), then export again."
        elif _repairable(artifact) and not report.repairs:
            what = "operators in float that int8 cannot hold" if _is_int8(artifact) else "in float32 what float16 loses"
            yield f"Add --repair to the export: it keeps {what}, and says what that costs."
            if _is_int8(artifact):
                yield f"See which operators lose: lspdmobile sensitivity {student}."
        else:
            yield f"{artifact.label} does not pass: {_otherwise(artifact)}."


def _otherwise(artifact: ArtifactEntry) -> str:
    if artifact.precision is Precision.FP32:
        return "it computes in float32, so look at its largest drifts, and at what lspdmobile verify --executor says"
    if artifact.precision.is_static_integer:
        return "take a wider precision, or calibrate on pictures like those it is judged on"
    return "take a wider precision, fp32 at the widest"


def _is_int8(artifact: ArtifactEntry) -> bool:
    return artifact.precision is Precision.W8A8


def _repairable(artifact: ArtifactEntry) -> bool:
    """Tell whether ``--repair`` has anything to try on it."""
    return _is_int8(artifact) or (artifact.format is Format.COREML and artifact.precision.may_compute_in_float16)
