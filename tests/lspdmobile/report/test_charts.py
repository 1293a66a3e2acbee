"""Every chart of the page by planted numbers: where it puts them, and what it says in words."""

import re
from xml.etree import ElementTree as ET

import pytest
from markupsafe import Markup

from lspdmobile.choices import Verdict
from lspdmobile.report.html.drift import drift_histograms
from lspdmobile.report.html.ladder import ladder
from lspdmobile.report.html.parity import joints
from lspdmobile.report.html.ranges import ranges
from lspdmobile.report.html.sizes import layers, operators, sizes
from lspdmobile.report.schema import (
    ArtifactEntry,
    HistogramEntry,
    LayerEntry,
    MetricEntry,
    RangesEntry,
    Report,
)

EVIL = "<script>alert('x')</script>\"&"


def parsed(html: Markup) -> ET.Element:
    """Parse markup; every part of the page is well-formed."""
    return ET.fromstring(f"<div>{html}</div>")


def text_of(element: ET.Element) -> str:
    return "".join(element.itertext())


def rows_of(html: Markup) -> list[list[ET.Element]]:
    """Give the cells of every row of the table's body."""
    return [list(row) for row in parsed(html).iter("tr")][1:]


def styles(element: ET.Element, kind: str) -> list[dict[str, float]]:
    """Give the percentages of the marks of a kind."""
    found = [mark for mark in element.iter() if kind in (mark.get("class") or "").split()]
    return [{k: float(v) for k, v in re.findall(r"(\w+):([-\d.]+)%", mark.get("style", ""))} for mark in found]


def with_parity(artifact: ArtifactEntry, **changes: object) -> ArtifactEntry:
    assert artifact.parity is not None
    return artifact.model_copy(update={"parity": artifact.parity.model_copy(update=changes)})


def metric(drop: float, low: float, high: float) -> MetricEntry:
    fields = {"name": "pck@0.2", "float": 0.6123, "artifact": 0.6123 - drop / 100, "drop": drop, "ci95": (low, high)}
    return MetricEntry.model_validate(fields)


@pytest.fixture
def one(report: Report) -> Report:
    """The report with its first artifact alone, which drops by 2 points with an interval of 0 to 4."""
    artifact = with_parity(report.artifacts[0], metric=metric(2.0, 0.0, 4.0)).model_copy(
        update={"verdict": Verdict.FAIL, "reasons": ("too much",)}
    )
    return report.model_copy(update={"artifacts": (artifact,)})


def test_the_ladder_puts_every_step_where_its_drop_says(one: Report) -> None:
    rows = rows_of(ladder(one, budget=1.0))
    assert [text_of(row[0]) for row in rows] == ["float student", "fused PyTorch", "coreml fp32"]
    assert [text_of(row[1]) for row in rows] == ["0.612", "-", "0.592"]
    last = rows[-1][3]
    (zero,), (budget,), (dot,) = (styles(last, kind) for kind in ("zero", "budget", "dot"))
    unit = budget["left"] - zero["left"]
    assert dot["left"] == pytest.approx(zero["left"] + 2 * unit, abs=0.2)
    (interval,) = styles(last, "interval")
    assert interval["left"] == pytest.approx(zero["left"], abs=0.1)
    assert interval["width"] == pytest.approx(4 * unit, abs=0.3)
    assert "failed" in next(m.get("class", "") for m in last.iter("i") if "dot" in m.get("class", ""))
    assert styles(rows[0][3], "dot")[0]["left"] == zero["left"], "the float student loses nothing"


@pytest.mark.parametrize(
    ("verdict", "kind"), [(Verdict.PASS, "passed"), (Verdict.FAIL, "failed"), (Verdict.NOT_JUDGED, "open")]
)
def test_the_ladder_marks_a_step_by_its_verdict(one: Report, verdict: Verdict, kind: str) -> None:
    judged = one.model_copy(update={"artifacts": (one.artifacts[0].model_copy(update={"verdict": verdict}),)})
    last = rows_of(ladder(judged, budget=1.0))[-1][3]
    assert [len(styles(last, each)) for each in ("dot", "interval", kind)] == [1, 1, 2]


@pytest.mark.parametrize(("budget", "wanted"), [(1.0, {"0", "1"}), (0.01, {"0.01"}), (None, {"0"})])
def test_labels_of_the_ladder_do_not_lie_on_each_other(one: Report, budget: float | None, wanted: set[str]) -> None:
    head = next(parsed(ladder(one, budget=budget)).iter("tr"))
    assert {label.text for label in head.iter("b")} == wanted


def test_the_ladder_names_the_teacher_and_says_that_it_was_not_measured(one: Report) -> None:
    taught = one.model_copy(update={"student": one.student.model_copy(update={"teacher": EVIL})})
    first = rows_of(ladder(taught, budget=None))[0]
    assert [text_of(cell) for cell in first[:3]] == [f"teacher: {EVIL}", "not measured here", "-"]
    assert not styles(first[3], "dot")


def test_without_labels_the_ladder_is_of_drifts(one: Report) -> None:
    artifact = with_parity(one.artifacts[0], metric=None)
    blind = one.model_copy(
        update={"artifacts": (artifact,), "reference": one.reference.model_copy(update={"metrics": {}})}
    )
    html = ladder(blind, budget=1.0)
    assert "drift p95, px" in html
    assert 'class="budget"' not in html
    assert text_of(rows_of(html)[-1][2]) == "0.06"


def test_a_histogram_draws_every_count_and_tells_what_is_within_half_a_cell(report: Report) -> None:
    histogram = HistogramEntry(edges_px=(0.0, 1.0, 2.0, 4.0), counts=(60, 30, 0, 10), cell_px=4)
    artifact = with_parity(report.artifacts[0], drift_histogram=histogram)
    html = drift_histograms(report.model_copy(update={"artifacts": (artifact,)}))
    svg = parsed(html).find(".//svg")
    assert svg is not None
    assert svg.get("aria-label") == "coreml fp32: 90.0% of 100 joints within half a cell (2 px)"
    bars = [(bar.get("class"), float(bar.get("height", ""))) for bar in svg.iter("rect")]
    assert [kind for kind, _ in bars] == ["near", "near", "far"]
    assert bars[0][1] == pytest.approx(2 * bars[1][1], rel=0.01)
    assert [t.text for t in svg.iter("text") if t.get("class") == "middle"] == ["60", "30", "10"]


def test_artifacts_without_a_histogram_draw_none(report: Report) -> None:
    bare = tuple(with_parity(a, drift_histogram=None) for a in report.artifacts if a.parity)
    assert drift_histograms(report.model_copy(update={"artifacts": bare})) == ""


def test_joints_have_a_bar_for_the_float_student_and_one_for_the_worst_artifact(report: Report) -> None:
    worst = with_parity(report.artifacts[0], per_joint={"neck": 0.25})
    shown = report.model_copy(update={"artifacts": (worst, report.artifacts[1])})
    neck = next(row for row in rows_of(joints(shown)) if text_of(row[0]) == "neck")
    assert styles(neck[1], "blue") == [{"width": 61.0}]
    assert styles(neck[1], "orange") == [{"width": 25.0}]
    assert [text_of(cell) for cell in neck[2:]] == ["0.610", "0.250 (0.02 px)", "0.600 (0.02 px)"]


def test_file_sizes_are_drawn_beside_the_float_student(report: Report) -> None:
    rows = rows_of(sizes(report.model_copy(update={"artifacts": report.artifacts[:1]})))
    assert [text_of(row[0]) for row in rows] == ["float student", "coreml fp32"]
    assert styles(rows[0][1], "orange") == [{"width": 100.0}]
    whole = report.student.bytes
    assert styles(rows[1][1], "blue")[0]["width"] == pytest.approx(100 * 1_060_000 / whole, abs=0.1)
    rest = 1_876_543 - 1_060_000 - 9_000
    assert styles(rows[1][1], "grey")[0]["width"] == pytest.approx(100 * rest / whole, abs=0.1)
    assert text_of(rows[1][3]) == "int8 1.06 MB, float32 9.00 kB"


def test_layers_are_listed_by_work_and_the_others_are_summed_up(report: Report) -> None:
    rows = rows_of(layers(report))
    assert [text_of(row[0]) for row in rows][:2] == ["stage.15", "stage.14"]
    assert text_of(rows[-1][0]) == "3 others"
    assert [text_of(cell) for cell in rows[-1][2:5]] == ["6.00 k", "5.0%", "60"], "1 + 2 + 3 of 120 thousand"
    assert styles(rows[1][1], "blue")[0]["width"] == pytest.approx(100 * 14 / 15, abs=0.1)


def test_layers_show_what_int8_makes_of_their_weights(report: Report) -> None:
    assert report.fusion is not None
    forecast = {"per_channel_db": 41.23, "range_ratio": 1480.3, "outlier_channels": [14, 35]}
    fusion = report.fusion.model_copy(
        update={
            "layers": (LayerEntry(name=EVIL, params=9, macs=900),),
            "certificate": {"int8": {"layers": {EVIL: forecast}}},
        }
    )
    (row,) = rows_of(layers(report.model_copy(update={"fusion": fusion})))
    assert text_of(row[0]) == EVIL
    assert [text_of(cell) for cell in row[5:]] == ["41.2", "1 to 1480.3", "2"]


def test_operators_of_a_file_are_listed_by_bytes(report: Report) -> None:
    held = {f"op {i}": {"int8": i} for i in range(1, 15)} | {EVIL: {"float32": 99}}
    artifact = report.artifacts[0].model_copy(update={"weight_bytes_by_layer": held})
    rows = rows_of(operators([artifact]))
    assert text_of(rows[0][0]) == EVIL
    assert text_of(rows[1][0]) == "op 14"
    assert [text_of(cell) for cell in rows[-1][2:]] == ["6 B", "int8 6 B"]
    assert operators([artifact.model_copy(update={"weight_bytes_by_layer": {}})]) == ""


def test_ranges_that_stand_out_are_marked_and_listed_first(report: Report) -> None:
    plain = {f"relu_{i}": (0.0, 1.0) for i in range(9)}
    entry = RangesEntry(artifacts=(EVIL,), ranges={**plain, EVIL: (-16.0, 2.0)})
    html = ranges(report.model_copy(update={"ranges": (entry,)}))
    bars = list(parsed(html).iter("rect"))
    assert [bar.get("class") for bar in bars] == ["near"] * 9 + ["far"]
    assert text_of(bars[-1]) == f"{EVIL}: -16 to 2"
    assert [text_of(cell) for cell in rows_of(html)[0]] == [EVIL, "-16", "2", "16.0"]
    assert "1 reach 8 times the median or farther" in html


def test_ranges_of_nothing_but_zeros_have_a_chart(report: Report) -> None:
    entry = RangesEntry(artifacts=("tflite w8a8",), ranges={"dead": (0.0, 0.0)})
    assert len(list(parsed(ranges(report.model_copy(update={"ranges": (entry,)}))).iter("rect"))) == 1


def test_charts_of_a_report_of_before_are_left_out(report: Report) -> None:
    """A report.json that has none of the keys the charts are made of."""
    assert report.fusion is not None
    old = report.model_copy(
        update={"ranges": (), "fusion": report.fusion.model_copy(update={"layers": ()}), "artifacts": ()}
    )
    assert (ranges(old), layers(old), operators(old.artifacts), sizes(old), drift_histograms(old)) == ("",) * 5


def test_an_interval_is_not_needed_for_a_step(report: Report) -> None:
    unmeasured = report.artifacts[-1]
    assert unmeasured.parity is None
    rows = rows_of(ladder(report.model_copy(update={"artifacts": (unmeasured,)}), budget=1.0))
    assert [text_of(cell) for cell in rows[-1][:3]] == ["executorch w8", "-", "-"]


def test_entries_of_drift_count_every_finite_distance(report: Report) -> None:
    measured = [a.parity for a in report.artifacts if a.parity is not None]
    assert all(parity.drift_histogram for parity in measured)
    assert {sum(p.drift_histogram.counts) for p in measured if p.drift_histogram} == {48 * 14}
