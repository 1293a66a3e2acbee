"""What differs between two runs: every planted change is named with both values, and equal runs differ in nothing."""

from dataclasses import replace

import pytest

from lspdmobile.artifact import ArtifactFacts, Delegation, Part, TensorFacts
from lspdmobile.choices import Verdict
from lspdmobile.report.differences import between_artifacts, between_reports
from lspdmobile.report.schema import Report

FACTS = ArtifactFacts(
    inputs=(TensorFacts(name="pictures", shape=(1, 3, 8, 8), dtype="float32"),),
    outputs=(TensorFacts(name="heatmaps", shape=(1, 2, 2, 2), dtype="float32"),),
    weight_bytes_by_dtype={"float32": 4000},
    ops={"CONV_2D": 3, "ADD": 1},
    delegation=Delegation(delegate="XNNPACK", delegated=4, total=4),
    metadata={"student": "a"},
)


def said(before: Report, after: Report) -> list[str]:
    return [f"{each.where}: {each.what} {each.text}" for each in between_reports(before, after)]


def test_a_run_does_not_differ_from_itself(report: Report) -> None:
    assert between_reports(report, report) == []
    slower = [a.model_copy(update={"latency_ms": 99.0, "export_seconds": 99.0}) for a in report.artifacts]
    assert between_reports(report, report.model_copy(update={"artifacts": tuple(slower)})) == []


def test_changes_of_an_artifact_are_named_with_both_values(report: Report) -> None:
    first, *others = report.artifacts
    assert first.bytes is not None
    changed = first.model_copy(
        update={"bytes": 2 * first.bytes, "verdict": Verdict.FAIL, "reasons": ("it fell",), "macs": first.macs + 1}
    )
    lines = said(report, report.model_copy(update={"artifacts": (changed, *others)}))
    assert any(line.startswith(f"{first.label}: bytes ") and line.endswith("(+100.0%)") for line in lines)
    assert f"{first.label}: macs {first.macs} -> {first.macs + 1}" in lines
    assert any(line.startswith(f"{first.label}: verdict ") and line.endswith("-> fail: it fell") for line in lines)
    assert all(line.startswith(first.label) for line in lines)


def test_accuracy_and_drift_are_compared(report: Report) -> None:
    first, *others = report.artifacts
    assert first.parity is not None
    drift = first.parity.drift_px.model_copy(update={"p95": 1.5})
    parity = first.parity.model_copy(update={"drift_px": drift, "heatmap_snr_db": 12.5})
    changed = first.model_copy(update={"parity": parity})
    lines = said(report, report.model_copy(update={"artifacts": (changed, *others)}))
    assert len(lines) == 2
    assert lines[0].endswith("-> 12.5")
    assert lines[1].endswith("-> 1.50")


def test_an_artifact_of_one_run_alone_is_named(report: Report) -> None:
    fewer = report.model_copy(update={"artifacts": report.artifacts[1:]})
    label, file = report.artifacts[0].label, report.artifacts[0].file
    assert said(report, fewer) == [f"{label}: file {file} -> absent"]
    assert said(fewer, report) == [f"{label}: file absent -> {file}"]


def test_another_student_tool_or_verdict_is_named(report: Report) -> None:
    student = report.student.model_copy(update={"sha256": "f" * 64})
    tools = {**report.environment, "torch": "9.9"}
    lines = said(
        report, report.model_copy(update={"student": student, "environment": tools, "verdict": Verdict.NOT_JUDGED})
    )
    assert len(lines) == 3
    assert lines[0].startswith("student: sha256 ")
    assert lines[1].startswith("environment: torch ")
    assert lines[1].endswith("-> 9.9")
    assert lines[2] == f"run: verdict {report.verdict} -> not judged"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"ops": {"CONV_2D": 3, "MUL": 2}}, "operators: MUL absent -> 2"),
        ({"weight_bytes_by_dtype": {"float32": 4000, "int8": 100}}, "weights: int8 weights - -> 100 B"),
        ({"delegation": Delegation(delegate="XNNPACK", delegated=3, total=4, not_delegated=("ADD",))}, "3 of 4"),
        ({"metadata": {"student": "b"}}, "metadata: student a -> b"),
        ({"outputs": (TensorFacts(name="heatmaps", shape=(1, 2, 2, 2), dtype="int8"),)}, "heatmaps int8[1, 2, 2, 2]"),
    ],
)
def test_what_two_files_hold_is_compared(change: dict[str, object], line: str) -> None:
    assert between_artifacts(FACTS, FACTS, (10, 10)) == []
    found = [f"{d.where}: {d.what} {d.text}" for d in between_artifacts(FACTS, replace(FACTS, **change), (10, 10))]  # type: ignore[arg-type]
    assert any(line in each for each in found)
    grown = between_artifacts(FACTS, FACTS, (1000, 1100))
    assert [each.text for each in grown] == ["1.00 kB -> 1.10 kB (+10.0%)"]


def test_a_part_that_only_one_file_has_is_named() -> None:
    part = Part(kind="method", name="decode", inputs=(), outputs=(), operators=1, macs=None)
    found = between_artifacts(FACTS, replace(FACTS, parts=(part,)), (10, 10))
    assert [(each.where, each.what, each.text) for each in found] == [("parts", "decode", "absent -> method")]
