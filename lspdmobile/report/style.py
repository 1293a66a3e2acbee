"""Colours and style sheet of the HTML report.

Every text and background pair of :data:`PALETTES` has a contrast of at least 4.5 to 1, every mark of a chart one of at
least 3 to 1 (WCAG 2.2, level AA). Print has the light colours, whatever the reader's system asks for.
"""

from collections.abc import Mapping
from typing import Final

__all__ = ["MARKS_ON_BACKGROUND", "PALETTES", "TEXT_ON_BACKGROUND", "style_sheet"]

PALETTES: Final[Mapping[str, Mapping[str, str]]] = {
    "light": {
        "page": "#ffffff",
        "panel": "#f4f6f8",
        "text": "#1b1f24",
        "muted": "#57606a",
        "line": "#d0d7de",
        "pass": "#1a7f37",
        "fail": "#b42318",
        "unjudged": "#6b4e00",
        "on-verdict": "#ffffff",
        "blue": "#2563a8",
        "orange": "#b45309",
        "teal": "#0f766e",
        "violet": "#7c3aed",
        "grey": "#6b7480",
    },
    "dark": {
        "page": "#0f1318",
        "panel": "#1a2029",
        "text": "#e6edf3",
        "muted": "#9aa7b4",
        "line": "#3a444f",
        "pass": "#3fb950",
        "fail": "#ff8a80",
        "unjudged": "#e3b341",
        "on-verdict": "#0f1318",
        "blue": "#6cb0f5",
        "orange": "#f0a04b",
        "teal": "#4fc3b5",
        "violet": "#b79bff",
        "grey": "#8b98a5",
    },
}
TEXT_ON_BACKGROUND: Final = (
    ("text", "page"),
    ("text", "panel"),
    ("muted", "page"),
    ("muted", "panel"),
    ("pass", "page"),
    ("fail", "page"),
    ("unjudged", "page"),
    ("on-verdict", "pass"),
    ("on-verdict", "fail"),
    ("on-verdict", "unjudged"),
)
MARKS_ON_BACKGROUND: Final = tuple(
    (mark, ground)
    for mark in ("blue", "orange", "teal", "violet", "grey", "pass", "fail")
    for ground in ("page", "panel")
)

_RULES: Final = """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.5rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0; } header p { margin: .1rem 0 1.2rem; color: var(--muted); }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; } p { max-width: 52rem; }
.banner { padding: 1rem 1.25rem; border-radius: .5rem; color: var(--on-verdict); }
.banner.pass { background: var(--pass); } .banner.fail { background: var(--fail); }
.banner.unjudged { background: var(--unjudged); }
.banner p, .banner ul { margin: 0; } .banner ul { margin-top: .5rem; padding-left: 1.2rem; font-size: .95rem; }
.word { font-size: 1.2rem; font-weight: 700; } .caveat { color: var(--muted); font-size: .9rem; margin: .6rem 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .75rem; margin: 1.2rem 0 0; }
.tiles div { background: var(--panel); border-radius: .5rem; padding: .7rem 1rem; }
.tiles dd { font-size: .85rem; color: var(--muted); }
.tiles dt + dd { font-size: 1.35rem; font-weight: 650; color: var(--text); line-height: 1.3; }
.scroll { overflow-x: auto; } .scroll + .scroll { margin-top: 1.2rem; } td details { margin: 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
caption { text-align: left; color: var(--muted); padding-bottom: .4rem; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child { text-align: left; } tbody th { font-weight: 500; }
thead th { background: var(--panel); vertical-align: bottom; }
.words { text-align: left; white-space: normal; min-width: 8rem; max-width: 28rem; }
tr.begins > * { border-top: 2px solid var(--line); }
td.pass { color: var(--pass); font-weight: 700; } td.fail { color: var(--fail); font-weight: 700; }
td.unjudged { color: var(--unjudged); font-weight: 700; }
.ladder table { width: 100%; } .ladder .words { max-width: none; min-width: 14rem; width: 55%; }
.track { position: relative; display: block; height: 1.1rem; }
.track i { position: absolute; top: 0; } .track b { position: absolute; transform: translateX(-50%); font-weight: 500; }
.zero, .budget { height: 100%; width: 0; border-left: 1px solid var(--grey); }
.budget { border-left: 2px dashed var(--text); }
.track .interval { top: .4rem; height: .3rem; min-width: 1px; border-radius: .15rem; opacity: .55; }
.track .dot { top: .25rem; width: .6rem; height: .6rem; margin-left: -.3rem; border-radius: 50%; }
.passed { background: var(--pass); } .failed { background: var(--fail); } .open { background: var(--unjudged); }
.track .dot.failed, .track .dot.open { border-radius: 0; transform: rotate(45deg); }
.bars { display: block; width: 11rem; } .bars .bar { display: block; height: .4rem; margin: .1rem 0; }
.stack { display: flex; width: 16rem; gap: 1px; } .stack .bar { height: .9rem; min-width: 1px; }
.blue { background: var(--blue); } .orange { background: var(--orange); } .teal { background: var(--teal); }
.violet { background: var(--violet); } .grey { background: var(--grey); }
.key, .swatch { display: inline-block; width: .8em; height: .8em; vertical-align: -.05em; margin-left: .5em; }
.key:first-child, .swatch:first-child { margin-left: 0; } .swatch { border: 1px solid var(--text); }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: .25rem 1.25rem; margin: 0;
  font-size: .9rem; }
dt { color: var(--muted); } dd { margin: 0; }
details { margin: .6rem 0; } summary { cursor: pointer; font-weight: 500; } details > :last-child { margin-top: .6rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1.5rem; }
figure { margin: 0; } figure img { max-width: 100%; height: auto; display: block; border-radius: .3rem; }
.heatmaps { display: grid; grid-template-columns: repeat(3, 1fr); gap: .4rem; margin-top: .4rem; }
.heatmaps img { width: 100%; image-rendering: pixelated; } .heatmaps span { color: var(--muted); font-size: .8rem; }
figcaption, footer { color: var(--muted); font-size: .85rem; margin-top: .3rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1.5rem; }
svg { display: block; width: 100%; } .wide svg { height: 10rem; } .wide { margin: .8rem 0; }
.chart { overflow: visible; } .chart text { fill: var(--text); font-size: 11px; } text.tick { fill: var(--muted); }
.chart .near { fill: var(--blue); } .chart .far { fill: var(--orange); }
.axis { stroke: var(--grey); fill: none; }
text.middle { text-anchor: middle; } text.end { text-anchor: end; }
.pareto { max-width: 36rem; } .pareto svg { font-size: .8rem; } .pareto text { fill: var(--text); }
.pareto .grid, .pareto .front { fill: none; stroke: var(--line); } .pareto .front { stroke: var(--text); }
.pareto .passed { fill: var(--pass); stroke: var(--pass); stroke-width: 2; }
.pareto .failed { fill: var(--page); stroke: var(--fail); stroke-width: 2; }
.pareto .chosen { fill: none; stroke: var(--text); stroke-width: 2; }
:focus-visible { outline: 2px solid var(--text); }
@media (max-width: 40rem) { body { padding: 1rem; } tbody th { white-space: normal; }
  .ladder .words { min-width: 9rem; } .stack { width: 9rem; } }
"""
_PRINT: Final = """
body { max-width: none; padding: 0; font-size: 9pt; } * { print-color-adjust: exact; }
.scroll { overflow: visible; } table { font-size: 7.5pt; } th, td { padding: .15rem .3rem; white-space: normal; }
figure, .banner, .tiles div, tr, h2 { break-inside: avoid; } h2 { break-after: avoid; }
.ladder .words { min-width: 9rem; } .stack { width: 9rem; } .bars { width: 5rem; }
details::details-content { content-visibility: visible; }
"""


def style_sheet() -> str:
    """Give the CSS, light by default, dark where the reader's system asks for it, and for paper."""
    light, dark = (_variables(PALETTES[name]) for name in ("light", "dark"))
    head = ":root { color-scheme: light dark; " + light + " }\n"
    darker = "@media screen and (prefers-color-scheme: dark) { :root { " + dark + " } }"
    paper = "@media print { :root { color-scheme: light; }" + _PRINT + "}\n"
    return head + darker + _RULES + paper


def _variables(palette: Mapping[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in palette.items())
