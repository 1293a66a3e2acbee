"""What is shown of conditions, and of a run that wants more pictures."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from lspdmobile.choices import Verdict
from lspdmobile.parity.conditions import ConditionDrop
from lspdmobile.parity.drop import MetricDrop
from lspdmobile.report.conditions import condition_headings, condition_lines, condition_rows, conditions_table
from lspdmobile.report.drops import ConditionEntry
from lspdmobile.report.html import render_html
from lspdmobile.report.schema import Report
from lspdmobile.report.tables import reason_lines


def _entry(condition: str, group: str, drop: float, *, beyond_chance: bool = False) -> ConditionEntry:
    measured = MetricDrop(
        name="pck@0.2",
        float_value=0.7,
        artifact_value=0.7 - drop / 100,
        drop=drop,
        joints=140,
        moved=9,
        per_picture=np.full(10, drop),
    )
    found = ConditionDrop(condition=condition, group=group, persons=10, drop=measured, beyond_chance=beyond_chance)
    return ConditionEntry.of(found)


@pytest.fixture
def upside_down(report: Report) -> Report:
    """The report, with a second artifact that breaks people who stand on their heads, and a first that does not."""
    entries = (
        (_entry("rotation", "0 to 45", 0.0), _entry("rotation", "135 to 180", 0.1)),
        (_entry("rotation", "0 to 45", -0.25), _entry("rotation", "135 to 180", 40.0, beyond_chance=True)),
    )
    artifacts = list(report.artifacts)
    for index, found in enumerate(entries):
        parity = artifacts[index].parity
        assert parity is not None
        artifacts[index] = artifacts[index].model_copy(
            update={"parity": parity.model_copy(update={"per_condition": found})}
        )
    return report.model_copy(update={"artifacts": tuple(artifacts)})


def test_the_rows_give_the_drop_of_every_artifact_on_every_group(upside_down: Report) -> None:
    labels = [artifact.label for artifact in upside_down.artifacts[:2]]
    assert condition_headings(upside_down) == ("condition", "persons", "joints", "float", *labels)
    assert condition_rows(upside_down) == [
        ["rotation: 0 to 45", "10", "140", "0.700", "0.00", "-0.25"],
        ["rotation: 135 to 180", "10", "140", "0.700", "0.10", "40.00 *"],
    ]


def test_only_losses_beyond_chance_are_told_in_the_terminal(upside_down: Report) -> None:
    (line,) = condition_lines(upside_down)
    label = upside_down.artifacts[1].label
    assert line == (
        f"{label}: loses by rotation (135 to 180): pck@0.2 drops by 40.00 points there, from 70.00 (10 persons)"
    )


def test_an_artifact_that_loses_everywhere_has_one_line(upside_down: Report) -> None:
    artifact = upside_down.artifacts[1]
    assert artifact.parity is not None
    groups = [("size", "small", 2.0), ("size", "large", 3.5), ("light", "dark", 3.0)]
    lost = (*(_entry(*each, beyond_chance=True) for each in groups), _entry("light", "bright", 4.0))
    changed = artifact.model_copy(update={"parity": artifact.parity.model_copy(update={"per_condition": lost})})
    (line,) = condition_lines(upside_down.model_copy(update={"artifacts": (changed,)}))
    assert line.startswith(f"{artifact.label}: loses by size (large): pck@0.2 drops by 3.50 points there")
    assert line.endswith("(10 persons), and in 2 more of 4 groups")


def test_the_page_and_the_file_have_them(upside_down: Report, report: Report) -> None:
    page = render_html(upside_down)
    assert "<h2>Conditions</h2>" in page
    assert "40.00 *" in page
    assert "<h2>Conditions</h2>" not in render_html(report)
    fields = json.loads(upside_down.model_dump_json(by_alias=True))["artifacts"][1]["parity"]["per_condition"][1]
    assert (fields["group"], fields["metric"]["drop"], fields["beyond_chance"]) == ("135 to 180", 40.0, True)
    assert Report.model_validate_json(upside_down.model_dump_json(by_alias=True)) == upside_down


def test_conditions_of_one_group_only_are_not_shown() -> None:
    group = {"persons": 3, "joints": 42, "metrics": {"pck@0.2": 0.5}}
    table = conditions_table({"size": {"small": group, "large": group}, "unlabelled": {"none": group}})
    console = Console(width=100, file=io.StringIO())
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "large" in shown
    assert "0.500" in shown
    assert "unlabelled" not in shown


def test_a_run_that_wants_more_pictures_says_so_everywhere(report: Report) -> None:
    reason = "pck@0.2 drops by 0.11 points: 128 pictures cannot show it, about 500 would"
    wanting = report.artifacts[0].model_copy(update={"verdict": Verdict.UNDECIDED, "reasons": (reason,)})
    undecided = report.model_copy(update={"artifacts": (wanting,), "verdict": Verdict.UNDECIDED})
    page = render_html(undecided)
    assert '<section class="banner unjudged"' in page
    assert '<p class="word">NOT ENOUGH PICTURES: 0 of 1 artifacts passed' in page
    assert '<td class="unjudged">not enough pictures</td>' in page
    assert reason in page
    assert reason_lines(undecided, only_failures=True) == [f"{wanting.label}: {reason}"]
