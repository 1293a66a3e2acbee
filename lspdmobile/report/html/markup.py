"""The pieces that every part of the page is made of: sections, tables, lists, bars."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from markupsafe import Markup

from lspdmobile.choices import Verdict
from lspdmobile.report.tables import MISSING

__all__ = [
    "NOTHING",
    "bar",
    "bars",
    "bullets",
    "closed",
    "facts",
    "gathered",
    "joined",
    "section",
    "table",
    "verdict_class",
]

NOTHING: Final = Markup("")
_LONGEST_LIST: Final = 12
_SHOWN: Final = 3
_CLASSES: Final = {Verdict.PASS.value: "pass", Verdict.FAIL.value: "fail"}
_VERDICTS: Final = frozenset(verdict.value for verdict in Verdict)

Text = str | Markup


def joined(parts: Iterable[Text], *, by: str = "\n") -> Markup:
    """Put parts behind each other, escaping those that are not markup; empty ones are left out."""
    return Markup(by).join(part for part in parts if part)


def section(heading: str, *content: Text) -> Markup:
    """Give a section under a heading of the second level; nothing where there is no content."""
    inside = joined(content)
    return Markup("<section>\n<h2>{}</h2>\n{}\n</section>").format(heading, inside) if inside else NOTHING


def closed(summary: str, content: Markup) -> Markup:
    """Give what only some readers open; print shows it whole."""
    return Markup("<details><summary>{}</summary>\n{}\n</details>").format(summary, content) if content else NOTHING


def verdict_class(text: str) -> str:
    """Give the class that colours a verdict: one that is neither pass nor fail is a question."""
    return _CLASSES.get(text, "unjudged") if text in _VERDICTS else ""


def table(
    caption: str,
    headings: Sequence[Text],
    rows: Sequence[Sequence[Text]],
    *,
    words: Collection[int] = (),
    breaks: Collection[int] = (),
) -> Markup:
    """Lay rows out; the first cell of each names the row, a verdict is coloured.

    Args:
        caption: What a screen reader announces, and readers see above.
        headings: Of the columns.
        rows: As many cells each.
        words: Numbers of the columns that hold words, not figures, beside the first.
        breaks: Numbers of the rows that begin another group.
    """
    head = (_cell(text, "th", "words" if i in words else "", scope="col") for i, text in enumerate(headings))
    body = (_row(row, words, begins=i in breaks) for i, row in enumerate(rows))
    return Markup(
        '<div class="scroll" role="region" tabindex="0" aria-label="{0}">\n<table><caption>{0}</caption>\n'
        "<thead><tr>{1}</tr></thead>\n<tbody>\n{2}\n</tbody></table>\n</div>"
    ).format(caption, Markup("").join(head), joined(body))


def gathered(rows: Iterable[Sequence[str]], column: int) -> list[list[Text]]:
    """Make one row of those that differ in nothing but the names in a column; more than a few names unfold."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        alike.setdefault((*row[:column], *row[column + 1 :]), []).append(row[column])
    return [[*rest[:column], _names(names), *rest[column:]] for rest, names in alike.items()]


def _names(names: Sequence[str]) -> Text:
    if len(names) <= _SHOWN:
        return ", ".join(names)
    return closed(f"{names[0]} and {len(names) - 1} more", Markup("<div>{}</div>").format(", ".join(names[1:])))


def _row(cells: Sequence[Text], words: Collection[int], *, begins: bool) -> Markup:
    first, *rest = cells
    others = (
        _cell(text, "td", verdict_class(text) or ("words" if i in words else "")) for i, text in enumerate(rest, 1)
    )
    opening = Markup('<tr class="begins">' if begins else "<tr>")
    return opening + _cell(first, "th", "", scope="row") + Markup("").join(others) + Markup("</tr>")


def _cell(text: Text, tag: str, kind: str, *, scope: str = "") -> Markup:
    attributes = Markup("").join(
        Markup(' {}="{}"').format(name, value) for name, value in (("scope", scope), ("class", kind)) if value
    )
    return Markup("<{0}{1}>{2}</{0}>").format(tag, attributes, text)


def bullets(items: Iterable[Text]) -> Markup:
    """Give a list; nothing where it is empty."""
    lines = joined(Markup("<li>{}</li>").format(item) for item in items)
    return Markup("<ul>\n{}\n</ul>").format(lines) if lines else NOTHING


def bar(share: float, kind: str) -> Markup:
    """Give a bar of a share of its column's width, 0 to 1; the number it stands for is in a cell beside it."""
    return Markup('<span class="bar {}" style="width:{:.1f}%"></span>').format(kind, 100 * min(max(share, 0.0), 1.0))


def bars(*each: Markup) -> Markup:
    """Put bars below each other; screen readers pass over them."""
    return Markup('<span class="bars" aria-hidden="true">{}</span>').format(Markup("").join(each))


def facts(values: Mapping[str, object]) -> Markup:
    """Show a mapping as a definition list; long lists and mappings are only counted."""
    lines = (
        Markup("<dt>{}</dt><dd>{}</dd>").format(str(key).replace("_", " "), _fact(value))
        for key, value in values.items()
    )
    inside = joined(lines)
    return Markup("<dl>\n{}\n</dl>").format(inside) if inside else NOTHING


def _fact(value: object) -> Text:
    if isinstance(value, Mapping):
        return facts(value) if len(value) <= _LONGEST_LIST else f"{len(value)} entries"
    if isinstance(value, list | tuple):
        return joined(map(_fact, value), by=", ") if len(value) <= _LONGEST_LIST else f"{len(value)} entries"
    if value is None or isinstance(value, bool):
        return {None: MISSING, True: "yes", False: "no"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)
