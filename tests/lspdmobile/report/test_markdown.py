"""``report.md``: short, true to the report, and safe to paste into a pull request."""

import re
from pathlib import Path

import pytest

from lspdmobile.choices import Verdict
from lspdmobile.report.html import render_html
from lspdmobile.report.markdown import plain, render_markdown, write_markdown
from lspdmobile.report.schema import ConditionEntry, Report

EVIL = "<img src=x onerror=alert(1)> | @everyone closes #12 [x](https://evil.example) `code`\n# heading"


def table_of(text: str) -> list[list[str]]:
    """Split the table into cells; a cell may hold an escaped bar."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_it_says_the_verdict_the_numbers_and_the_reasons(report: Report) -> None:
    text = render_markdown(report, budget=1.0)
    cause = "95% of the joints drift by at most 7.50 px"
    assert text.startswith(f"# lspd-s: FAIL, likeliest cause: tflite w8a8: {cause}; executorch w8: refused\n")
    assert "9 of 11 artifacts passed on 48 pictures (bundled pictures), a drop of at most 1.00 points allowed." in text
    head, _, *rows = table_of(text)
    assert head[-1] == "verdict"
    assert [row[0] for row in rows] == [a.label for a in report.artifacts]
    parity = report.artifacts[9].parity
    assert parity is not None
    assert parity.metric is not None
    low, high = parity.metric.ci95
    interval = f"12.34 ({low:.2f} to {high:.2f})"
    assert rows[9] == ["tflite w8a8", "1.88", "4.0", "2.50 / 7.50 / 125", "0.489", interval, "fail"]
    assert rows[10][1:] == ["-", "-", "-", "-", "-", "fail"]
    assert "- tflite w8a8 (fail): 95% of the joints drift by at most 7.50 px" in text
    assert "- executorch w8 (fail): refused" in text


def test_it_stays_under_sixty_lines_whatever_the_run(report: Report) -> None:
    many = report.model_copy(update={"artifacts": report.artifacts * 6})
    text = render_markdown(many)
    assert len(text.splitlines()) < 60
    assert "42 more are in report.html." in text
    assert "- and 4 more" in text


def test_a_run_that_passed_names_no_reason(report: Report) -> None:
    passed = report.model_copy(update={"artifacts": report.artifacts[:3], "verdict": Verdict.PASS})
    text = render_markdown(passed)
    assert text.startswith("# lspd-s: PASS")
    assert "**Why**" not in text
    assert "lspdmobile verify" in text


def test_it_names_the_conditions_that_lose_more_than_chance(report: Report) -> None:
    first = report.artifacts[0]
    assert first.parity is not None
    assert first.parity.metric is not None
    upside_down = ConditionEntry(
        condition="rotation", group="135-180", persons=7, beyond_chance=True, metric=first.parity.metric
    )
    parity = first.parity.model_copy(update={"per_condition": (upside_down,)})
    lost = report.model_copy(update={"artifacts": (first.model_copy(update={"parity": parity}),)})
    line = "coreml fp32: loses by rotation (135-180): pck@0.2 drops by"
    assert f"**Where it loses**\n\n- {line}" in render_markdown(lost)
    assert "**Where it loses**" not in render_markdown(report)
    page = render_html(lost).partition("<h2>Conditions</h2>")[2]
    assert page.startswith(f"\n<ul>\n<li>{line}")


def test_without_labels_it_says_so(report: Report) -> None:
    blind = report.model_copy(update={"reference": report.reference.model_copy(update={"metrics": {}})})
    assert "No labels: drift and heatmaps decide." in render_markdown(blind)


def test_no_text_of_a_run_becomes_markup(report: Report) -> None:
    artifact = report.artifacts[-1].model_copy(update={"reasons": (EVIL,), "caveat": EVIL})
    evil = report.model_copy(
        update={
            "student": report.student.model_copy(update={"name": EVIL}),
            "reference": report.reference.model_copy(update={"data": EVIL}),
            "artifacts": (artifact,),
        }
    )
    text = render_markdown(evil)
    assert "<" not in text
    assert re.search(r"(?<!\\)[`\[\]]", text) is None
    assert re.search(r"(?<!\w)@\w|(?<!&)#\d", text) is None
    assert [line for line in text.splitlines() if line.startswith("#")] == [text.splitlines()[0]]
    assert {len(row) for row in table_of(text) if row} == {7}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("pck@0.2", "pck@0.2"),
        ("a|b", "a\\|b"),
        ("a\n b", "a b"),
        ("<b>", "&lt;b&gt;"),
        ("@me", "&#64;me"),
        (3.5, "3.5"),
    ],
)
def test_plain_text_stays_as_it_is(text: object, wanted: str) -> None:
    assert plain(text) == wanted


def test_a_long_reason_is_cut() -> None:
    assert len(plain("x" * 1000)) == 400


def test_it_is_written(report: Report, tmp_path: Path) -> None:
    write_markdown(tmp_path / "report.md", report, budget=1.0)
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == render_markdown(report, budget=1.0)
