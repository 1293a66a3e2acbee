"""The page: self-contained, escaped, accessible, and true to the report."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lspdmobile.choices import Verdict
from lspdmobile.delegation import Basis, Delegation, Left
from lspdmobile.report.delegations import delegation_lines
from lspdmobile.report.html import render_html, write_html
from lspdmobile.report.pictures import ARTIFACT_COLOUR, FLOAT_COLOUR, WorstPicture
from lspdmobile.report.schema import DelegationEntry, LayerEntry, RangesEntry, Report
from lspdmobile.report.shortfalls import shortfall_entries
from lspdmobile.report.style import MARKS_ON_BACKGROUND, PALETTES, TEXT_ON_BACKGROUND, style_sheet
from lspdmobile.report.tables import parity_rows
from lspdmobile.shortfall import Shortfall
from lspdmobile.skeleton import LSP_14

EVIL = "<script>alert('x')</script>\"&"
VOID = {"meta", "img", "br"}
HEADINGS = (
    *("What to do next", "Where the accuracy went", "Parity", "Why", "Largest drifts", "Drift", "Joints", "Size"),
    *("Layers", "Delegation", "Files", "Calibration", "Background", "Fusion certificate", "Plan", "Environment"),
)


class _Page(HTMLParser):
    """Checks nesting and gathers tags, attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def _parse(html: str) -> _Page:
    page = _Page()
    page.feed(html)
    page.close()
    assert page.open == []
    return page


@pytest.fixture
def worst() -> WorstPicture:
    """A grey picture with both skeletons apart."""
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.uniform(40, 160, 14), rng.uniform(40, 160, 14), np.ones(14)]).astype(np.float32)
    return WorstPicture(
        title=EVIL,
        picture=np.full((200, 200, 3), 128, np.uint8),
        float_keypoints=points,
        artifact_keypoints=points + np.asarray([15, 0, 0], np.float32),
        skeleton=LSP_14,
        drift_px=15.0,
    )


def test_the_page_is_well_formed_and_complete(report: Report, worst: WorstPicture) -> None:
    page = _parse(render_html(report, worst=[worst]))
    for row in parity_rows(report):
        assert row.drift_px in page.text
    for artifact in report.artifacts:
        assert (artifact.executed_by or "-") in page.text
    for heading in HEADINGS:
        assert heading in page.text
    assert "FAIL: 9 of 11 artifacts passed on 48 pictures" in page.text
    assert "3.1e-15" in page.text
    assert "60 entries" in page.text


def test_nothing_is_loaded_and_nothing_runs(report: Report, worst: WorstPicture) -> None:
    html = render_html(report, worst=[worst])
    without_pictures = re.sub(r"base64,[^\"]+", "", html)
    assert re.search(r"https?:|//[a-z]|url\(|@import|<script|<link|<iframe", without_pictures) is None
    sources = [attrs.get("src") or "" for tag, attrs in _parse(html).tags if tag == "img"]
    assert len(sources) == 1
    assert sources[0].startswith("data:image/jpeg;base64,")
    assert "default-src 'none'" in html


def test_every_text_from_outside_is_escaped(report: Report, worst: WorstPicture) -> None:
    artifact = (
        report.artifacts[0]
        .model_copy(
            update={
                "file": EVIL,
                "executed_by": EVIL,
                "caveat": EVIL,
                "reasons": (EVIL,),
                "notes": (EVIL,),
                "sha256": EVIL,
            }
        )
        .model_copy(update={"weight_bytes_by_layer": {EVIL: {EVIL: 9}}, "weight_bytes_by_dtype": {EVIL: 9}})
    )
    assert report.fusion is not None
    evil = report.model_copy(
        update={
            "student": report.student.model_copy(update={"name": EVIL}),
            "reference": report.reference.model_copy(
                update={"data": EVIL, "executed_by": EVIL, "per_joint": {"pck@0.2": {EVIL: 0.5}}}
            ),
            "fusion": report.fusion.model_copy(
                update={
                    "certificate": {EVIL: EVIL, "nested": {EVIL: [EVIL]}},
                    "layers": (LayerEntry(name=EVIL, params=1, macs=1),),
                }
            ),
            "plan": {EVIL: EVIL},
            "environment": {EVIL: EVIL},
            "artifacts": (artifact,),
            "ranges": (RangesEntry(artifacts=(EVIL,), ranges={EVIL: (-1.0, 1.0)}),),
        }
    )
    html = render_html(evil, worst=[worst])
    assert "<script" not in html
    assert "alert('x')" not in html
    assert _parse(html).text.count("alert(") >= 20


def test_both_skeletons_are_in_the_picture(report: Report, worst: WorstPicture) -> None:
    source = re.search(r"base64,([^\"]+)", render_html(report, worst=[worst]))
    assert source is not None
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(source[1]))), np.int64)
    assert max(pixels.shape[:2]) == 480
    for colour in (FLOAT_COLOUR, ARTIFACT_COLOUR):
        near = np.abs(pixels - np.asarray(colour)).max(axis=2) < 45
        assert near.sum() > 200


def test_tables_and_pictures_are_labelled_for_screen_readers(report: Report, worst: WorstPicture) -> None:
    page = _parse(render_html(report, worst=[worst]))
    tags = [tag for tag, _ in page.tags]
    assert tags.count("caption") == tags.count("table") >= 8
    levels = [int(tag[1]) for tag in tags if tag in ("h1", "h2", "h3")]
    assert levels[0] == 1
    assert set(levels[1:]) == {2}, "no level is left out"
    drawn = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert len(drawn) == 11, "a histogram for each artifact that was executed, and the ranges"
    assert all(attrs.get("role") == "img" and attrs.get("aria-label") for attrs in drawn)
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in page.tags if tag == "th")
    assert all(attrs.get("alt") for tag, attrs in page.tags if tag == "img")
    assert dict(page.tags)["html"] == {"lang": "en"}


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("palette", PALETTES)
@pytest.mark.parametrize("pair", TEXT_ON_BACKGROUND, ids="-on-".join)
def test_every_text_has_the_contrast_wcag_asks_for(palette: str, pair: tuple[str, str]) -> None:
    bright, dark = sorted((_luminance(PALETTES[palette][name]) for name in pair), reverse=True)
    assert (bright + 0.05) / (dark + 0.05) >= 4.5


@pytest.mark.parametrize("palette", PALETTES)
@pytest.mark.parametrize("pair", MARKS_ON_BACKGROUND, ids="-on-".join)
def test_every_mark_of_a_chart_has_the_contrast_wcag_asks_for(palette: str, pair: tuple[str, str]) -> None:
    bright, dark = sorted((_luminance(PALETTES[palette][name]) for name in pair), reverse=True)
    assert (bright + 0.05) / (dark + 0.05) >= 3


@pytest.mark.parametrize("verdict", list(Verdict))
def test_the_banner_says_the_verdict_and_what_is_against_it(report: Report, verdict: Verdict) -> None:
    artifact = report.artifacts[0].model_copy(update={"verdict": verdict, "reasons": (EVIL, "and more")})
    judged = report.model_copy(update={"artifacts": (artifact,), "verdict": verdict})
    page = render_html(judged).partition('<section class="banner ')[2].partition("</section>")[0]
    kind = {Verdict.PASS: "pass", Verdict.FAIL: "fail"}.get(verdict, "unjudged")
    assert page.startswith(f'{kind}" aria-label="Verdict">')
    assert verdict.value.upper() in page
    told = f"coreml fp32 ({verdict.value}): &lt;script&gt;"
    assert (told in page) is (verdict is not Verdict.PASS)
    assert "and more" not in page


def test_the_first_numbers_are_the_worst_ones_and_the_smallest_file_that_passes(report: Report) -> None:
    page = _parse(render_html(report))
    for text in ("0.612", "12.34 points", "7.50 px", "1.88 MB", "2.33x smaller"):
        assert text in page.text


def test_every_colour_variable_used_is_defined_in_both_palettes() -> None:
    css = style_sheet()
    used = set(re.findall(r"var\(--([a-z-]+)\)", css))
    assert used == set(PALETTES["light"]) == set(PALETTES["dark"])
    assert "prefers-color-scheme: dark" in css


def test_a_run_without_artifacts_fusion_or_pictures_still_renders(report: Report, tmp_path: Path) -> None:
    empty = report.model_copy(update={"artifacts": (), "fusion": None, "plan": {}})
    write_html(tmp_path / "report.html", empty)
    page = _parse((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "0 of 0 artifacts" in page.text
    assert "Fusion certificate" not in page.text


def test_what_is_not_honoured_is_listed_whole(report: Report) -> None:
    assert "Not honoured" not in render_html(report)
    shortfall = Shortfall(layer="stage.<heatmap>", wanted="scale 0.5", found="scale 1", reason="PAD keeps it")
    alike = [replace(shortfall, layer=f"layer {i}") for i in range(5)]
    artifact = report.artifacts[0].model_copy(
        update={"not_honoured": shortfall_entries([shortfall, replace(shortfall, found="scale 2"), *alike])}
    )
    page = render_html(report.model_copy(update={"artifacts": (artifact, *report.artifacts[1:])}))
    assert page.count("stage.&lt;heatmap&gt;") == 2
    rest = ", ".join(each.layer for each in alike)
    assert f"<details><summary>stage.&lt;heatmap&gt; and 5 more</summary>\n<div>{rest}</div>\n</details>" in page
    assert page.count("PAD keeps it") == 2
    assert all(text in page for text in ("scale 0.5", "scale 1", "PAD keeps it", artifact.label))


def test_what_a_target_leaves_is_listed_with_its_reason_and_doubts_are_marked(report: Report) -> None:
    told = Left(operator="gather 3", kind="gather", macs=0, rule="gather", why="reading at <computed> places")
    doubt = Left(operator="conv 4", kind="conv", macs=9, rule="dilation", why="is reported to leave")
    forecast = Delegation(
        delegate="Neural Engine",
        delegated=9,
        total=10,
        not_delegated=("gather x1",),
        target="coreml-ane",
        basis=Basis.RULES,
        delegated_macs=100,
        total_macs=100,
        left=(told,),
        doubtful=(doubt,),
    )
    first = report.artifacts[0].model_copy(update={"forecasts": (DelegationEntry.of(forecast),)})
    changed = report.model_copy(update={"artifacts": (first, *report.artifacts[1:])})
    page = render_html(changed)
    assert "reading at &lt;computed&gt; places" in page
    assert "doubtful" in page
    assert "coreml-ane" in page
    (line,) = [each for each in delegation_lines(changed) if "Neural Engine" in each]
    assert line.startswith(f"{first.label} on Neural Engine: 9 of 10 operators (90.0%), 100.0% of the MACs, by rules")
    assert delegation_lines(changed, heavy_only=True) == delegation_lines(report), "no multiplication leaves"
    assert "left: gather x1 (reading at <computed> places); doubtful: conv x1 (is reported to leave)" in line
