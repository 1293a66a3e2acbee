"""Learning curves as a picture: val PCK by epoch, the mean over seeds and the band between the least and the most."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from benchmarks.trials.runs import Result

__all__ = ["draw_curves"]

_SIZE: Final = (1000, 620)
_PLOT: Final = (70, 20, 980, 400)
_KEY: Final = "val pck@0.2"
_COLOURS: Final = ("#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#d68910", "#16a085", "#7f8c8d", "#2c3e50", "#e67e9f")
_DASHES: Final = (None, 8, 3)
_FONT: Final = 14


def draw_curves(curves: Mapping[str, Sequence[Result]], path: Path) -> None:
    """Draw one curve for every arm that has results, and write a PNG, replacing the file at once."""
    picture = Image.new("RGB", _SIZE, "white")
    pen = ImageDraw.Draw(picture, "RGBA")
    points = {name: _points(results) for name, results in curves.items() if results}
    most = max((epoch for line in points.values() for epoch, *_ in line), default=1.0)
    top = max((high for line in points.values() for *_, high in line), default=1.0)
    _axes(pen, most, top)
    for place, (name, line) in enumerate(points.items()):
        colour = _COLOURS[place % len(_COLOURS)]
        dash = _DASHES[place // len(_COLOURS) % len(_DASHES)]
        band = [_at(e, low, most, top) for e, _, low, _ in line] + [_at(e, h, most, top) for e, *_, h in reversed(line)]
        if len(band) > 2:
            pen.polygon(band, fill=colour + "22")
        _stroke(pen, [_at(e, mean, most, top) for e, mean, *_ in line], colour, dash)
        x, y = 70 + 310 * (place % 3), 440 + 22 * (place // 3)
        _stroke(pen, [(x, y + 8), (x + 28, y + 8)], colour, dash)
        pen.text((x + 36, y), name, fill="black", font=ImageFont.load_default(_FONT))
    partial = path.with_name(f".{path.name}.partial")
    picture.save(partial, "PNG")
    partial.replace(path)


def _points(results: Sequence[Result]) -> list[tuple[float, float, float, float]]:
    """Give epoch, mean, least and most of what all seeds have validated."""
    found: list[tuple[float, float, float, float]] = []
    for entries in zip(*(r.curve for r in results), strict=False):
        values = [entry[_KEY] for entry in entries]
        found.append((entries[0]["epoch"], sum(values) / len(values), min(values), max(values)))
    return found


def _at(epoch: float, value: float, most: float, top: float) -> tuple[float, float]:
    left, upper, right, lower = _PLOT
    return left + (right - left) * epoch / most, lower - (lower - upper) * value / top


def _axes(pen: ImageDraw.ImageDraw, most: float, top: float) -> None:
    font = ImageFont.load_default(_FONT)
    for tick in range(6):
        value = top * tick / 5
        (x, y), (right, _) = _at(0, value, most, top), _at(most, value, most, top)
        pen.line([(x, y), (right, y)], fill="#dddddd")
        pen.text((x - 8, y), f"{value:.2f}", fill="black", font=font, anchor="rm")
        across, low = _at(most * tick / 5, 0, most, top)
        pen.text((across, low + 6), f"{most * tick / 5:g}", fill="black", font=font, anchor="ma")
    pen.text((_PLOT[0] + 6, _PLOT[1]), f"{_KEY} by epoch", fill="black", font=font)


def _stroke(pen: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], colour: str, dash: int | None) -> None:
    if dash is None:
        pen.line(list(points), fill=colour, width=2)
        return
    for (x0, y0), (x1, y1) in pairwise(points):
        length = max(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, 1e-9)
        for i in range(0, int(length), 2 * dash):
            a, b = i / length, min((i + dash) / length, 1)
            piece = [(x0 + a * (x1 - x0), y0 + a * (y1 - y0)), (x0 + b * (x1 - x0), y0 + b * (y1 - y0))]
            pen.line(piece, fill=colour, width=2)
