"""The front of a repair by hand-worked numbers, and a plot that says in words what it shows."""

import re
from xml.etree import ElementTree as ET

import pytest

from lspdmobile.report.explanations import repair_rows
from lspdmobile.report.html import render_html
from lspdmobile.report.pareto import on_front, pareto_figure, ticks
from lspdmobile.report.repair import RepairEntry, TrialEntry
from lspdmobile.report.schema import Report

OPERATORS = 20
EVIL = "<script>&"


def trial(
    kept: int,
    extra_bytes: int,
    drop: float | None,
    *,
    drift: float = 1.0,
    passed: bool = False,
    chosen: bool = False,
) -> TrialEntry:
    return TrialEntry(
        kept_float=kept,
        extra_bytes=extra_bytes,
        drop=drop,
        drift_p95_px=drift,
        passed=passed,
        chosen=chosen,
        integer_operators=OPERATORS - kept,
    )


TRIALS = (
    trial(0, 0, 9.0),  # nothing is smaller
    trial(2, 40, 2.0),
    trial(3, 40, 3.0),  # dominated: as large as the one above, loses more, fewer operators
    trial(4, 80, 0.2, passed=True, chosen=True),
    trial(3, 100, 0.2, passed=True),  # larger, but one operator more stays integer
    trial(6, 100, 0.5, passed=True),  # dominated by the two above
)
FRONT = (True, True, False, True, True, False)


def entry(*trials: TrialEntry, artifact: str = "tflite w8a8") -> RepairEntry:
    return RepairEntry(
        artifacts=(artifact,),
        passed=True,
        operators=OPERATORS,
        kept_float=("a", "b", "c", "d"),
        weight_bytes=1000,
        extra_bytes=80,
        snr_db=10.0,
        causes=(),
        trials=tuple(t.model_copy(update={"on_front": f}) for t, f in zip(trials, on_front(trials), strict=True)),
        exhaustive=OPERATORS,
    )


def test_the_front_holds_what_nothing_betters() -> None:
    assert on_front(TRIALS) == FRONT
    assert on_front((TRIALS[0], TRIALS[0])) == (True, True), "equals do not better each other"


def test_without_labels_drift_counts_and_heatmaps_that_are_not_finite_lose() -> None:
    near, far, broken = (trial(0, 0, None, drift=d) for d in (1.0, 2.0, float("nan")))
    assert broken.drift_p95_px is None
    assert on_front((near, far, broken)) == (True, False, False)


@pytest.mark.parametrize(
    ("largest", "wanted"),
    [(17.97, [0, 5, 10, 15, 20]), (0.33, [0, 0.1, 0.2, 0.3, 0.4]), (20, [0, 5, 10, 15, 20]), (0, [0, 1])],
)
def test_ticks_are_round_and_reach_past_the_largest(largest: float, wanted: list[float]) -> None:
    assert ticks(largest) == pytest.approx(wanted)


def svg(repair: RepairEntry) -> ET.Element:
    figure = ET.fromstring(pareto_figure(repair, name="one"))
    found = figure.find("svg")
    assert found is not None
    return found


def test_the_plot_puts_each_network_where_its_numbers_say_and_rings_the_choice() -> None:
    drawn = svg(entry(*TRIALS))
    circles = [(c.get("class"), float(c.get("cx", "")), float(c.get("cy", ""))) for c in drawn.iter("circle")]
    marks = {kind: [(x, y) for k, x, y in circles if k == kind] for kind in ("passed", "failed", "chosen")}
    assert (len(marks["passed"]), len(marks["failed"])) == (3, 3)
    assert marks["chosen"] == [marks["passed"][0]]
    (x0, y0), (x1, y1), (x2, _) = marks["failed"]
    assert x1 == x2
    for (x, y), (growth, drop) in zip(marks["passed"], [(8, 0.2), (10, 0.2), (10, 0.5)], strict=True):
        assert x == pytest.approx(x0 + (x1 - x0) * growth / 4, abs=0.2)
        assert y == pytest.approx(y0 + (y1 - y0) * (9 - drop) / 7, abs=0.2)
    line = drawn.find("polyline")
    assert line is not None
    assert len(line.get("points", "").split()) == sum(FRONT)
    assert [t.text for t in drawn.iter("text") if t.get("class") is None] == ["20", "18", "16", "17"]


def test_the_plot_says_in_words_what_it_shows() -> None:
    drawn = svg(entry(*TRIALS, artifact=EVIL))
    assert drawn.get("role") == "img"
    ids = {element.get("id"): element.text or "" for element in drawn if element.get("id")}
    title, described = (ids[name] for name in drawn.get("aria-labelledby", "").split())
    assert title == f"{EVIL}: drop in points over growth of the weights"
    assert described.startswith(
        "6 networks were judged. On the front: 20 int8 operators, weights grow by 0.0%, drop 9.00"
    )
    assert described.endswith("Chosen: 16 int8 operators, weights grow by 8.0%, drop 0.20 points.")


def test_what_has_no_place_is_left_out_of_the_plot() -> None:
    bare = entry(trial(0, 0, None, drift=float("nan")), trial(4, 80, None, drift=0.5, chosen=True))
    assert "drift p95 in pixels" in pareto_figure(bare, name="one")
    assert len(list(svg(bare).iter("circle"))) == 2, "the choice and its ring"
    assert pareto_figure(entry(trial(4, 80, None, drift=float("nan"), chosen=True)), name="one") == ""


def test_one_network_that_grew_by_nothing_has_a_plot() -> None:
    repair = entry(trial(0, 0, 9.0, chosen=True))
    assert [c.get("class") for c in svg(repair).iter("circle")] == ["failed", "chosen"]


def test_a_gain_lies_below_the_zero_line() -> None:
    drawn = svg(entry(trial(0, 0, 9.0), trial(4, 80, -1.0, chosen=True)))
    lowest = max(float(c.get("cy", "")) for c in drawn.iter("circle"))
    zero = next(float(t.get("y", "")) - 4 for t in drawn.iter("text") if t.text == "0")
    assert lowest > zero + 5


def test_the_page_shows_plot_and_table_with_the_front_and_the_choice(report: Report) -> None:
    repaired = report.model_copy(update={"repairs": (entry(*TRIALS), entry(*TRIALS))})
    page = render_html(repaired)
    assert page.count('<figure class="pareto"><svg') == 2
    assert len(set(re.findall(r'id="([^"]+)"', page))) == 4, "titles and descriptions of both plots"
    column = [row[-2] for row in repair_rows(repaired)]
    assert column == 2 * ["on the front", "on the front", "", "chosen", "on the front", ""]
    assert "<td>chosen</td>" in page
    assert "style=" not in page.partition('class="pareto"')[2].partition("</svg>")[0], (
        "colours come from the style sheet"
    )
