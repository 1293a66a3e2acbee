"""The pictures of ``report.html`` on which an artifact drifted most, with the heatmaps of the joint that moved most."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from lspdmobile.drawing import draw_skeleton
from lspdmobile.report.tables import pixels
from lspdmobile.skeleton import Skeleton

__all__ = ["WorstPicture", "difference_colours", "heatmap_colours", "picture_figures"]

FLOAT_COLOUR: Final = (70, 160, 255)
ARTIFACT_COLOUR: Final = (255, 145, 0)
_PICTURE_SIDE: Final = 480
_HEATMAP_SIDE: Final = 144
_JPEG_QUALITY: Final = 85
_NEUTRAL: Final = (32, 36, 42)
"""Background of heatmaps: what is zero, or equal in both."""

Pixels = NDArray[np.uint8]
Maps = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class WorstPicture:
    """A picture on which an artifact drifted, to be shown with both skeletons.

    Attributes:
        title: Which artifact and picture.
        picture: RGB ``[H, W, 3]`` uint8.
        float_keypoints, artifact_keypoints: float32 ``[K, 3]``: x, y in picture pixels, score.
        skeleton: Gives the limbs.
        drift_px: Largest drift on this picture, in input pixels.
        joint: Which joint that was; empty where it is not known.
        heatmaps: That joint's heatmaps ``[h, w]``, the float student's and the artifact's; None where there are none.
    """

    title: str
    picture: Pixels
    float_keypoints: Maps
    artifact_keypoints: Maps
    skeleton: Skeleton
    drift_px: float
    joint: str = ""
    heatmaps: tuple[Maps, Maps] | None = None


def picture_figures(worst: Sequence[WorstPicture]) -> Markup:
    """Give a figure for each picture, with a legend; nothing where there are none."""
    if not worst:
        return Markup("")
    swatch = '<span class="swatch" style="background:rgb{}"></span> {}'
    legend = Markup(" ").join(
        Markup(swatch).format(str(colour), name)
        for colour, name in ((FLOAT_COLOUR, "float student"), (ARTIFACT_COLOUR, "artifact"))
    )
    figures = Markup("\n").join(map(_figure, worst))
    return Markup('<p>{}</p>\n<div class="pictures">\n{}\n</div>').format(legend, figures)


def _figure(worst: WorstPicture) -> Markup:
    moved = f"{worst.joint.replace('_', ' ') or 'a joint'} moved by {pixels(worst.drift_px)} px"
    caption = f"{worst.title}: {moved}"
    picture, scale = _scaled(worst.picture)
    for keypoints, colour in ((worst.float_keypoints, FLOAT_COLOUR), (worst.artifact_keypoints, ARTIFACT_COLOUR)):
        placed = keypoints * np.asarray([scale[0], scale[1], 1.0], np.float32)
        picture = draw_skeleton(picture, placed, worst.skeleton, colour=colour)
    shown = _inlined(picture, caption, "JPEG", quality=_JPEG_QUALITY)
    return Markup("<figure>{}{}<figcaption>{}</figcaption></figure>").format(shown, _heatmaps(worst), caption)


def _heatmaps(worst: WorstPicture) -> Markup:
    """Show the joint's heatmap twice and what lies between them."""
    if worst.heatmaps is None:
        return Markup("")
    before, after = worst.heatmaps
    largest = float(max(np.abs(before).max(), np.abs(after).max()))
    joint = worst.joint.replace("_", " ")
    panels = (
        ("float", heatmap_colours(before, largest, FLOAT_COLOUR)),
        ("artifact", heatmap_colours(after, largest, ARTIFACT_COLOUR)),
        ("difference", difference_colours(before, after)),
    )
    each = (
        Markup("<div>{}<span>{}</span></div>").format(
            _inlined(_enlarged(colours), f"{worst.title}: heatmap of the {joint}, {name}", "PNG"), name
        )
        for name, colours in panels
    )
    return Markup('<div class="heatmaps">{}</div>').format(Markup("").join(each))


def heatmap_colours(values: Maps, largest: float, colour: tuple[int, int, int]) -> Pixels:
    """Colour a heatmap ``[h, w]``: neutral at zero and below, the colour at the largest value; RGB ``[h, w, 3]``."""
    share = np.clip(values / largest if largest > 0 else values, 0.0, 1.0)
    return _mixed(share, colour)


def difference_colours(before: Maps, after: Maps) -> Pixels:
    """Colour what lies between two heatmaps: the float student's colour where it has more, else the artifact's.

    The largest difference has the full colour.
    """
    difference = after - before
    largest = float(np.abs(difference).max())
    share = np.abs(difference) / largest if largest > 0 else np.zeros_like(difference)
    more = (difference > 0)[..., None]
    return np.where(more, _mixed(share, ARTIFACT_COLOUR), _mixed(share, FLOAT_COLOUR))


def _mixed(share: Maps, colour: tuple[int, int, int]) -> Pixels:
    """Go from neutral at 0 to the colour at 1."""
    neutral, full = (np.asarray(each, np.float32) for each in (_NEUTRAL, colour))
    mixed: Pixels = np.rint(neutral + share[..., None] * (full - neutral)).astype(np.uint8)
    return mixed


def _enlarged(colours: Pixels) -> Pixels:
    """Repeat cells so that the longer side has about the shown size."""
    times = max(1, _HEATMAP_SIDE // max(colours.shape[:2]))
    return colours.repeat(times, axis=0).repeat(times, axis=1)


def _inlined(picture: Pixels, alt: str, form: str, **options: int) -> Markup:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, form, **options)
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    image = '<img alt="{}" width="{}" height="{}" src="data:image/{};base64,{}">'
    return Markup(image).format(alt, picture.shape[1], picture.shape[0], form.lower(), data)


def _scaled(picture: Pixels) -> tuple[Pixels, tuple[float, float]]:
    """Bring the longer side to the shown size; gives the picture and its x and y scale."""
    height, width = picture.shape[:2]
    factor = _PICTURE_SIDE / max(height, width)
    new = (max(1, round(width * factor)), max(1, round(height * factor)))
    resized = Image.fromarray(picture).resize(new, Image.Resampling.BICUBIC)
    return np.asarray(resized, np.uint8), (new[0] / width, new[1] / height)
