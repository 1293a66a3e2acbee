"""Skeletons drawn on pictures."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lspdmobile.skeleton import Skeleton

__all__ = ["draw_skeleton"]

Colour = tuple[int, int, int]
_OUTLINE: Final[Colour] = (0, 0, 0)
_SHARE_OF_PICTURE: Final = 160
_FINER: Final = 2


def draw_skeleton(
    picture: NDArray[np.uint8],
    keypoints: NDArray[np.float32],
    skeleton: Skeleton,
    *,
    colour: Colour,
    threshold: float = 0.0,
) -> NDArray[np.uint8]:
    """Draw joints and limbs on a copy of the picture, dark-edged so that they show on any background.

    Line width follows the picture's size. A joint below the threshold, or with a value that is not finite, is left out
    together with its limbs.

    Args:
        picture: RGB ``[H, W, 3]`` uint8.
        keypoints: float32 ``[K, 3]``: x, y in picture pixels (continuous, the picture spans 0..W), score.
        skeleton: Gives the limbs.
        colour: Red, green, blue, 0 to 255.
        threshold: Lowest score that is drawn.

    Returns:
        RGB ``[H, W, 3]`` uint8.

    Raises:
        ValueError: The shapes do not fit.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or keypoints.shape != (skeleton.count, 3):
        message = f"shapes do not fit: picture {picture.shape}, keypoints {keypoints.shape} of {skeleton.name}"
        raise ValueError(message)
    height, width = picture.shape[:2]
    mask = Image.new("RGBA", (width * _FINER, height * _FINER))
    stroke = max(_FINER, round(_FINER * max(height, width) / _SHARE_OF_PICTURE))
    _draw(ImageDraw.Draw(mask), _visible(keypoints, threshold, picture.shape), skeleton, colour, stroke)
    layer = mask.resize((width, height), Image.Resampling.BOX)
    drawn = Image.alpha_composite(Image.fromarray(picture).convert("RGBA"), layer)
    return np.asarray(drawn.convert("RGB"), dtype=np.uint8).copy()


def _visible(
    keypoints: NDArray[np.float32], threshold: float, shape: tuple[int, ...]
) -> list[tuple[float, float] | None]:
    """Give each joint's place on the finer canvas, None where it is not drawn; far joints are kept near the picture."""
    reach = 4.0 * max(shape[:2])
    points: list[tuple[float, float] | None] = []
    for x, y, score in keypoints.tolist():
        known = bool(np.isfinite((x, y, score)).all()) and score >= threshold
        near = (_FINER * min(max(x, -reach), reach), _FINER * min(max(y, -reach), reach))
        points.append(near if known else None)
    return points


def _draw(
    canvas: ImageDraw.ImageDraw,
    points: list[tuple[float, float] | None],
    skeleton: Skeleton,
    colour: Colour,
    stroke: int,
) -> None:
    limbs = [(points[a], points[b]) for a, b in skeleton.limbs]
    for ink, grow in ((_OUTLINE, _FINER), (colour, 0)):
        for start, end in limbs:
            if start is not None and end is not None:
                canvas.line((start, end), fill=(*ink, 255), width=stroke + 2 * grow)
        for point in points:
            if point is not None:
                radius = stroke + grow
                x, y = point
                canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(*ink, 255))
