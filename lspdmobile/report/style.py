"""Colours and style sheet of the HTML report.

Every text and background pair of :data:`PALETTES` has a contrast of at least 4.5 to 1 (WCAG 2.2, level AA).
"""

from collections.abc import Mapping
from typing import Final

__all__ = ["PALETTES", "TEXT_ON_BACKGROUND", "style_sheet"]

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

_RULES: Final = """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
.banner { padding: 1rem 1.25rem; border-radius: .5rem; color: var(--on-verdict); font-size: 1.2rem; font-weight: 700; }
.banner.pass { background: var(--pass); } .banner.fail { background: var(--fail); }
.banner.unjudged { background: var(--unjudged); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
caption { text-align: left; color: var(--muted); padding-bottom: .4rem; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child { text-align: left; }
thead th { background: var(--panel); vertical-align: bottom; }
td.pass { color: var(--pass); font-weight: 700; } td.fail { color: var(--fail); font-weight: 700; }
td.unjudged { color: var(--unjudged); font-weight: 700; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.25rem; margin: 0; font-size: .9rem; }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; max-width: 30rem; } figure img { max-width: 100%; height: auto; display: block; }
figcaption, footer { color: var(--muted); font-size: .85rem; }
.pareto { max-width: 36rem; } .pareto svg { width: 100%; font-size: .8rem; }
.pareto text { fill: var(--text); } .pareto .tick { fill: var(--muted); }
.pareto .middle { text-anchor: middle; } .pareto .end { text-anchor: end; }
.pareto .grid, .pareto .front { fill: none; stroke: var(--line); } .pareto .front { stroke: var(--text); }
.pareto .passed { fill: var(--pass); stroke: var(--pass); stroke-width: 2; }
.pareto .failed { fill: var(--page); stroke: var(--fail); stroke-width: 2; }
.pareto .chosen { fill: none; stroke: var(--text); stroke-width: 2; }
.swatch { display: inline-block; width: 1em; height: 1em; border: 1px solid var(--text); vertical-align: -.1em; }
:focus-visible { outline: 2px solid var(--text); }
"""


def style_sheet() -> str:
    """Give the CSS, light by default and dark where the reader's system asks for it."""
    light, dark = (_variables(PALETTES[name]) for name in ("light", "dark"))
    head = ":root { color-scheme: light dark; " + light + " }\n"
    return head + "@media (prefers-color-scheme: dark) { :root { " + dark + " } }" + _RULES


def _variables(palette: Mapping[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in palette.items())
