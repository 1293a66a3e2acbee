"""What is shown of conditions: the metric by condition of one network, and the drop by condition of every artifact."""

from collections.abc import Mapping
from typing import Any, Final

from rich import box
from rich.table import Table
from rich.text import Text

from lspdmobile.report.drops import ConditionEntry
from lspdmobile.report.schema import ArtifactEntry, Report
from lspdmobile.report.tables import MISSING, fraction, points

__all__ = ["CONDITIONS_CAPTION", "condition_headings", "condition_lines", "condition_rows", "conditions_table"]

CONDITIONS_CAPTION: Final = (
    "Drop in points by condition; * where it is more than chance (95 % for all groups of an artifact)"
)


def conditions_table(scores: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Table:
    """Lay :func:`lspdmobile.parity.conditions.condition_scores` out, one row per group."""
    metrics = list(
        dict.fromkeys(m for groups in scores.values() for group in groups.values() for m in group["metrics"])
    )
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("condition", no_wrap=True)
    table.add_column("", no_wrap=True)
    for heading in ("persons", "joints", *metrics):
        table.add_column(heading, justify="right", no_wrap=True)
    for condition, groups in scores.items():
        if len(groups) < 2:  # everything, once more
            continue
        for number, (name, group) in enumerate(groups.items()):
            values = (fraction(group["metrics"].get(metric)) for metric in metrics)
            cells = ("" if number else condition, name, str(group["persons"]), str(group["joints"]), *values)
            table.add_row(*map(Text, cells))
    return table


def condition_headings(report: Report) -> tuple[str, ...]:
    """Give the headings of :func:`condition_rows`."""
    return "condition", "persons", "joints", "float", *(artifact.label for artifact in _measured(report))


def condition_rows(report: Report) -> list[list[str]]:
    """Give one row of text per group: the float student's metric, then every artifact's drop."""
    by_artifact = [
        {(each.condition, each.group): each for each in artifact.parity.per_condition} if artifact.parity else {}
        for artifact in _measured(report)
    ]
    groups = dict.fromkeys(key for entries in by_artifact for key in entries)
    rows = []
    for key in groups:
        first = next(entries[key] for entries in by_artifact if key in entries)
        counts = [str(first.persons), str(first.metric.joints), fraction(first.metric.float_value)]
        rows.append([": ".join(key), *counts, *(_drop(entries.get(key)) for entries in by_artifact)])
    return rows


def condition_lines(report: Report) -> list[str]:
    """Give a line for every artifact that loses more on a group than chance explains: its worst, and how many more."""
    lines = []
    for artifact in _measured(report):
        groups = artifact.parity.per_condition if artifact.parity else ()
        lost = [each for each in groups if each.beyond_chance]
        if lost:
            worst = max(lost, key=lambda each: each.metric.drop)
            more = f", and in {len(lost) - 1} more of {len(groups)} groups" if len(lost) > 1 else ""
            lines.append(
                f"{artifact.label}: loses by {worst.condition} ({worst.group}): {worst.metric.name} drops by "
                f"{points(worst.metric.drop)} points there, from {100 * worst.metric.float_value:.2f} "
                f"({worst.persons} persons){more}"
            )
    return lines


def _measured(report: Report) -> list[ArtifactEntry]:
    return [artifact for artifact in report.artifacts if artifact.parity is not None and artifact.parity.per_condition]


def _drop(entry: ConditionEntry | None) -> str:
    if entry is None:
        return MISSING
    return f"{points(entry.metric.drop)}{' *' if entry.beyond_chance else ''}"
