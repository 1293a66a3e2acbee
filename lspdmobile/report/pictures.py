"""The pictures of ``report.html`` on which an artifact drifted most, inlined as JPEG."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lspdmobile.drawing import draw_skeleton
from lspdmobile.report.tables import pixels
from lspdmobile.skeleton import Skeleton

__all__ = ["WorstPicture", "picture_figures"]

FLOAT_COLOUR: Final = (70, 160, 255)
ARTIFACT_COLOUR: Final = (255, 145, 0)
_PICTURE_SIDE: Final = 480
_JPEG_QUALITY: Final = 85


@dataclass(frozen=True, kw_only=True)
class WorstPicture:
    """A picture on which an artifact drifted, to be shown with both skeletons.

    Attributes:
        title: Which artifact and picture.
        picture: RGB ``[H, W, 3]`` uint8.
        float_keypoints, artifact_keypoints: float32 ``[K, 3]``: x, y in picture pixels, score.
        skeleton: Gives the limbs.
        drift_px: Largest drift on this picture, in input pixels.
    """

    title: str
    picture: NDArray[np.uint8]
    float_keypoints: NDArray[np.float32]
    artifact_keypoints: NDArray[np.float32]
    skeleton: Skeleton
    drift_px: float


def picture_figures(worst: Sequence[WorstPicture]) -> str:
    """Give a figure for each picture, with a legend; nothing where there are none."""
    if not worst:
        return ""
    legend = " ".join(
        f'<span class="swatch" style="background: rgb{colour}"></span> {name}'
        for name, colour in (("float student", FLOAT_COLOUR), ("artifact", ARTIFACT_COLOUR))
    )
    return f'<p>{legend}</p>\n<div class="pictures">\n' + "\n".join(map(_figure, worst)) + "\n</div>"


def _figure(worst: WorstPicture) -> str:
    caption = escape(f"{worst.title}: a joint moved by {pixels(worst.drift_px)} px")
    picture, scale = _scaled(worst.picture)
    for keypoints, colour in ((worst.float_keypoints, FLOAT_COLOUR), (worst.artifact_keypoints, ARTIFACT_COLOUR)):
        placed = keypoints * np.asarray([scale[0], scale[1], 1.0], np.float32)
        picture = draw_skeleton(picture, placed, worst.skeleton, colour=colour)
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=_JPEG_QUALITY)
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    return (
        f'<figure><img alt="{caption}" width="{picture.shape[1]}" height="{picture.shape[0]}" '
        f'src="data:image/jpeg;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )


def _scaled(picture: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], tuple[float, float]]:
    """Bring the longer side to the shown size; gives the picture and its x and y scale."""
    height, width = picture.shape[:2]
    factor = _PICTURE_SIDE / max(height, width)
    new = (max(1, round(width * factor)), max(1, round(height * factor)))
    resized = Image.fromarray(picture).resize(new, Image.Resampling.BICUBIC)
    return np.asarray(resized, np.uint8), (new[0] / width, new[1] / height)
