"""The number formatter, and tables that fit a terminal of 100 columns."""

import io

import pytest
from rich.console import Console, RenderableType

from lspdmobile.report import tables
from lspdmobile.report.schema import Report


def _shown(table: RenderableType, *, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


@pytest.mark.parametrize(
    ("bytes_", "text"),
    [
        (1_876_543, "1.88"),
        (412_000, "0.412"),
        (12_345_678, "12.3"),
        (123_456_789, "123"),
        (None, "-"),
        (999_900, "1.00"),
    ],
)
def test_megabytes(bytes_: int | None, text: str) -> None:
    assert tables.megabytes(bytes_) == text


@pytest.mark.parametrize(
    ("bytes_", "text"), [(950, "950 B"), (9_000, "9.00 kB"), (1_876_543, "1.88 MB"), (100_000, "0.100 MB"), (None, "-")]
)
def test_size(bytes_: int | None, text: str) -> None:
    assert tables.size(bytes_) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (456_700_000, "457 M"),
        (1_234_000_000, "1.23 G"),
        (999_600, "1.00 M"),
        (12_345, "12.3 k"),
        (900, "900"),
        (0, "0"),
    ],
)
def test_amount(count: int, text: str) -> None:
    assert tables.amount(count) == text


@pytest.mark.parametrize(
    ("drift", "text"),
    [(0.004, "0.00"), (3.214, "3.21"), (9.996, "10.0"), (148.4, "148"), (float("nan"), "-"), (None, "-")],
)
def test_pixels(drift: float | None, text: str) -> None:
    assert tables.pixels(drift) == text


@pytest.mark.parametrize(("drop", "text"), [(0.123, "0.12"), (-0.004, "0.00"), (-0.05, "-0.05"), (None, "-")])
def test_points(drop: float | None, text: str) -> None:
    assert tables.points(drop) == text


def test_other_numbers() -> None:
    assert tables.fraction(0.59449) == "0.594"
    assert tables.decibels(41.26) == "41.3"
    assert tables.decibels(None, identical=True) == "∞"
    assert tables.decibels(None) == "-"
    assert tables.error(3.14e-7) == "3.1e-07"
    assert tables.milliseconds(4.214) == "4.21"


def test_the_parity_table_has_a_row_for_each_network_and_artifact(report: Report) -> None:
    rows = tables.parity_rows(report)
    assert [r.name for r in rows[:2]] == ["float PyTorch", "fused PyTorch"]
    assert len(rows) == 2 + len(report.artifacts)
    failed = next(r for r in rows if r.name == "tflite w8a8")
    assert (failed.megabytes, failed.macs, failed.params) == ("1.88", "457 M", "1.07 M")
    assert (failed.drift_px, failed.metric, failed.drop, failed.verdict) == ("2.50/7.50/125", "0.489", "12.34", "fail")
    assert rows[0].metric == "0.612"
    assert rows[1].snr_db == "∞"
    refused = rows[-1]
    assert (refused.megabytes, refused.drift_px, refused.executed_by, refused.verdict) == ("-", "-", "-", "fail")


def test_the_parity_table_fits_100_columns_without_losing_a_character(report: Report) -> None:
    shown = _shown(tables.parity_table(report))
    assert max(map(len, shown.splitlines())) <= 100
    assert "…" not in shown
    for row in tables.parity_rows(report):
        line = next(line for line in shown.splitlines() if line.startswith(row.name + " "))
        assert row.drift_px in line
        assert row.verdict in line
        assert row.executed_by.split(" (")[0] in line


def test_file_names_and_executors_cannot_inject_markup(report: Report) -> None:
    evil = report.artifacts[0].model_copy(update={"executed_by": "[red]X[/]"})
    shown = _shown(tables.parity_table(report.model_copy(update={"artifacts": (evil,)})))
    assert "[red]X[/]" in shown


def test_without_labels_the_metric_columns_are_empty(report: Report) -> None:
    bare = report.model_copy(
        update={
            "reference": report.reference.model_copy(update={"metrics": {}}),
            "artifacts": tuple(
                a.model_copy(update={"parity": a.parity.model_copy(update={"metric": None}) if a.parity else None})
                for a in report.artifacts
            ),
        }
    )
    assert tables.metric_name(bare) == "metric"
    assert {(r.metric, r.drop) for r in tables.parity_rows(bare)} == {("-", "-")}


def test_reasons_name_their_artifact(report: Report) -> None:
    failures = tables.reason_lines(report, only_failures=True)
    assert failures == ["tflite w8a8: 95% of the joints drift by at most 7.50 px", "executorch w8: refused"]
    assert len(tables.reason_lines(report)) == len(report.artifacts)


def test_the_metrics_table_shows_all_and_every_joint() -> None:
    per_joint = {"pck@0.2": {"left_hip": 0.5, "neck": 1.0}, "pckh@0.5": {"left_hip": 0.25}}
    shown = _shown(tables.metrics_table({"pck@0.2": 0.75, "pckh@0.5": 0.25, "oks_ap": 0.4}, per_joint))
    lines = {line.split("  ")[0].strip(): line.split() for line in shown.splitlines() if line.strip()}
    assert lines["all"][-2:] == ["0.750", "0.250"]
    assert lines["left hip"][-2:] == ["0.500", "0.250"]
    assert lines["neck"][-2:] == ["1.000", "-"]
    assert "oks_ap" not in shown
    assert tables.metric_line({"oks_ap": 0.4, "oks_ar": 0.5}) == "oks_ap 0.400, oks_ar 0.500"
