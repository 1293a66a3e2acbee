"""The preprocess contract: the one description of how a picture becomes the network's input.

Training, calibration, evaluation and the demo apps all use this object, and every artifact carries it. Coordinates are
continuous: a picture of W columns spans 0..W and the centre of its first pixel is 0.5.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lspdmobile.errors import BadInputError

__all__ = ["Crop", "PreprocessContract"]

_MIN_JOINTS_FOR_BOX: Final = 4
_LARGEST_SCALE: Final = 4
# Labels this far out are mistakes: a crop may hold nine times the square around the picture, or 67 million pixels.
_LARGEST_SPAN: Final = 3
_LARGEST_SMALL_CROP: Final = 2**26
_LARGEST_LEVEL_ERROR: Final = 0.01


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A window of the picture that is resized to the network's input.

    Attributes:
        x, y: Left and top edge in picture pixels; may lie outside the picture.
        width, height: Size in picture pixels.
    """

    x: float
    y: float
    width: float
    height: float

    def widened(self, factor: float) -> "Crop":
        """Give the window ``factor`` times as wide and as high about the same centre."""
        return Crop(
            x=self.x - self.width * (factor - 1) / 2,
            y=self.y - self.height * (factor - 1) / 2,
            width=self.width * factor,
            height=self.height * factor,
        )


@dataclass(frozen=True, kw_only=True)
class PreprocessContract:
    """How pictures become input tensors and how heatmap cells become picture pixels.

    Attributes:
        input_size: Rows and columns of the input.
        heatmap_stride: Input pixels per heatmap cell; cell j covers ``[j, j+1) * stride``.
        colour_order: Channel order of the input tensor.
        mean, std: Per channel, on a 0..1 scale: input = (pixel / 255 - mean) / std.
        crop_rule: ``"joints"``: the box of the labelled joints times ``joint_box_scale`` (the person box times
            ``person_box_scale`` where fewer than four joints are labelled), grown to the input's aspect ratio. Without
            a box: the whole picture, likewise.
        joint_box_scale, person_box_scale: At least 1.
        resize: Antialiased bilinear (Pillow); what lies outside the picture is filled with the mean colour.
    """

    input_size: tuple[int, int]
    heatmap_stride: int
    colour_order: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    crop_rule: Literal["joints"] = "joints"
    joint_box_scale: float = 1.25
    person_box_scale: float = 1.1
    resize: Literal["bilinear"] = "bilinear"

    def __post_init__(self) -> None:
        """Refuse fields that no picture could be prepared by.

        Raises:
            ValueError: A field is not one of its choices, not of its length or not positive (all are listed).
        """
        faults = [
            f"{name} {value!r} is not {' or '.join(map(repr, allowed))}"
            for name, value, allowed in (
                ("colour_order", self.colour_order, ("rgb", "bgr")),
                ("crop_rule", self.crop_rule, ("joints",)),
                ("resize", self.resize, ("bilinear",)),
            )
            if value not in allowed
        ]
        if not _numbers(self.input_size, 2, whole=True) or min(self.input_size) < 1:
            faults.append(f"input_size {self.input_size!r} is not two positive whole numbers")
        if not _numbers((self.heatmap_stride,), 1, whole=True) or self.heatmap_stride < 1:
            faults.append(f"heatmap_stride {self.heatmap_stride!r} is not a positive whole number")
        if not _numbers(self.mean, 3):
            faults.append(f"mean {self.mean!r} is not three numbers")
        if not _numbers(self.std, 3) or min(self.std) <= 0:
            faults.append(f"std {self.std!r} is not three positive numbers")
        if not _numbers((self.joint_box_scale, self.person_box_scale), 2) or not (
            1 <= self.joint_box_scale <= _LARGEST_SCALE and 1 <= self.person_box_scale <= _LARGEST_SCALE
        ):
            scales = f"{self.joint_box_scale!r} and person_box_scale {self.person_box_scale!r}"
            faults.append(f"joint_box_scale {scales} are not two numbers from 1 to {_LARGEST_SCALE}")
        if faults:
            raise ValueError("; ".join(faults))

    @property
    def heatmap_size(self) -> tuple[int, int]:
        """Rows and columns of the heatmaps."""
        return self.input_size[0] // self.heatmap_stride, self.input_size[1] // self.heatmap_stride

    def to_dict(self) -> dict[str, Any]:
        """Give the contract as JSON-able values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "PreprocessContract":
        """Rebuild from :meth:`to_dict`.

        Raises:
            BadInputError: A field is missing, unknown or has no usable value.
        """
        try:
            values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
            return cls(**values)
        except (AttributeError, TypeError, ValueError) as error:
            message = f"preprocess contract cannot be read: {error}"
            raise BadInputError(message) from error

    def crop_for(
        self,
        picture_size: tuple[int, int],
        *,
        keypoints: NDArray[np.float32] | None = None,
        box: tuple[float, float, float, float] | None = None,
    ) -> Crop:
        """Choose the window by the crop rule.

        Args:
            picture_size: Rows and columns of the picture.
            keypoints: Labels ``[K, 3]`` (x, y, visibility), if there are any.
            box: x, y, width, height of the person, if known.

        Raises:
            BadInputError: The keypoints or the box are not finite, or span far more than any picture.
        """
        x, y, width, height = 0.0, 0.0, float(picture_size[1]), float(picture_size[0])
        seen = keypoints[keypoints[:, 2] > 0, :2] if keypoints is not None else np.empty((0, 2), np.float32)
        scale = 1.0
        if len(seen) >= _MIN_JOINTS_FOR_BOX:
            low, high = seen.min(axis=0), seen.max(axis=0)
            x, y, width, height = float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])
            scale = self.joint_box_scale
        elif box is not None:
            x, y, width, height = box
            scale = self.person_box_scale
        crop = self._grown(x + width / 2, y + height / 2, max(width, 1.0) * scale, max(height, 1.0) * scale)
        most = max(_LARGEST_SMALL_CROP, (_LARGEST_SPAN * max(picture_size)) ** 2)
        if not np.isfinite((crop.x, crop.y, crop.width, crop.height)).all() or crop.width * crop.height > most:
            message = (
                f"a person spanning {width:g} x {height:g} pixels at {x:g}, {y:g} cannot be cut out of a picture of "
                f"{picture_size[1]} x {picture_size[0]}; check its keypoints and box"
            )
            raise BadInputError(message)
        return crop

    def _grown(self, centre_x: float, centre_y: float, width: float, height: float) -> Crop:
        rows, columns = self.input_size
        width = max(width, height * columns / rows)
        height = width * rows / columns
        return Crop(x=centre_x - width / 2, y=centre_y - height / 2, width=width, height=height)

    def apply(self, picture: NDArray[np.uint8], crop: Crop) -> NDArray[np.float32]:
        """Cut, resize and normalise.

        Args:
            picture: RGB ``[H, W, 3]`` uint8.
            crop: The window to see.

        Returns:
            float32 ``[3, rows, columns]``, contiguous.
        """
        return self.normalise(self.cut(picture, crop))

    def cut(self, picture: NDArray[np.uint8], crop: Crop, *, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """Cut and resize without normalising.

        Args:
            picture: RGB ``[H, W, 3]`` uint8.
            crop: The window to see.
            size: Rows and columns of the result; the input's own by default.

        Returns:
            RGB ``[rows, columns, 3]`` uint8.
        """
        rows, columns = size or self.input_size
        patch, (left, top) = self._padded(picture, crop)
        x, y = crop.x - left, crop.y - top
        window = (x, y, x + crop.width, y + crop.height)
        return np.asarray(Image.fromarray(patch).resize((columns, rows), Image.Resampling.BILINEAR, box=window))

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn RGB ``[rows, columns, 3]`` uint8 into the input ``[3, rows, columns]`` float32."""
        scaled = pixels.astype(np.float32) / np.float32(255)
        if self.colour_order == "bgr":
            scaled = scaled[..., ::-1]
        normal = (scaled - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return np.ascontiguousarray(normal.transpose(2, 0, 1))

    def pixels(self, inputs: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Undo :meth:`normalise` for ``[..., 3, rows, columns]``; gives RGB ``[..., rows, columns, 3]`` uint8.

        Raises:
            ValueError: The inputs were not made of pixels by this contract.
        """
        planes = np.moveaxis(inputs, -3, -1).astype(np.float64)
        levels = 255 * (planes * np.asarray(self.std) + np.asarray(self.mean))
        whole = np.rint(levels)
        if not (np.abs(levels - whole) <= _LARGEST_LEVEL_ERROR).all() or whole.min() < 0 or whole.max() > 255:
            message = "these inputs are not pictures of 256 grey levels, normalised by this contract"
            raise ValueError(message)
        ordered = whole[..., ::-1] if self.colour_order == "bgr" else whole
        return np.ascontiguousarray(ordered.astype(np.uint8))

    def to_picture(self, keypoints: NDArray[np.float32], crop: Crop) -> NDArray[np.float32]:
        """Map keypoints ``[..., 3]`` (x, y in input pixels, score) to picture pixels."""
        rows, columns = self.input_size
        mapped = keypoints.copy()
        mapped[..., 0] = crop.x + keypoints[..., 0] * (crop.width / columns)
        mapped[..., 1] = crop.y + keypoints[..., 1] * (crop.height / rows)
        return mapped

    def _padded(self, picture: NDArray[np.uint8], crop: Crop) -> tuple[NDArray[np.uint8], tuple[int, int]]:
        """Copy the pixels the crop needs, mean-coloured outside; gives them and their left and top edge."""
        height, width = picture.shape[:2]
        left, top = int(np.floor(crop.x)), int(np.floor(crop.y))
        right, bottom = int(np.ceil(crop.x + crop.width)), int(np.ceil(crop.y + crop.height))
        fill = np.rint(np.asarray(self.mean if self.colour_order == "rgb" else self.mean[::-1]) * 255).astype(np.uint8)
        patch = np.empty((bottom - top, right - left, 3), np.uint8)
        patch[:] = fill
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        if x1 > x0 and y1 > y0:
            patch[y0 - top : y1 - top, x0 - left : x1 - left] = picture[y0:y1, x0:x1]
        return patch, (left, top)


def _numbers(values: Any, length: int, *, whole: bool = False) -> bool:
    """Tell whether values are a tuple of so many finite (whole) numbers."""
    if not isinstance(values, tuple) or len(values) != length:
        return False
    kind: type[Any] = Integral if whole else Real
    return all(isinstance(v, kind) and not isinstance(v, bool) and bool(np.isfinite(v)) for v in values)
