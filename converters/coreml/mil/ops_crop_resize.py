"""Boxes cut out of pictures and resized linearly (``crop_resize``).

A box from a to b, both centres of cells, is sampled at m places. Settled by the reference and by the TensorFlow and
torchvision operations that Core ML Tools makes of it:

- ``STRICT_ALIGN_CORNERS``: from a to b in equal steps; ``ALIGN_CORNERS`` is the same, but looks at the middle if m is 1
- ``OFFSET_CORNERS``: in the middles of m equal bins of the box (a box shorter than 1 is refused)

How the other modes, and boxes given by centre and size, treat a box is not settled. Before iOS 17 boxes lie in a
tensor of rank 5, and one of 5 numbers starts with its picture's index; since then indices are an input of their own.
A place beyond the picture takes ``pad_value``, as in TensorFlow; before iOS 16 there is none, and it is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from converters.coreml.mil.arguments import Arguments, Kernel, Planner

__all__ = ["PLANNERS"]

_MODES: Final = ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "OFFSET_CORNERS")


@dataclass(frozen=True, kw_only=True)
class _Sampling:
    """Attributes of a ``crop_resize``."""

    mode: str
    sizes: tuple[int, int]
    normalized: bool
    scale: float
    width_first: bool
    pad_value: float | None

    @classmethod
    def of(cls, args: Arguments) -> "_Sampling":
        corners = ("CORNERS_HEIGHT_FIRST", "CORNERS_WIDTH_FIRST")
        return cls(
            mode=args.text("sampling_mode", _MODES) if args.has("sampling_mode") else _default_mode(args),
            sizes=(args.integer("target_height", default=1), args.integer("target_width", default=1)),
            normalized=args.flag("normalized_coordinates"),
            scale=args.number("spatial_scale", default=1.0),
            width_first=args.text("box_coordinate_mode", corners, default=corners[0]) == corners[1],
            pad_value=args.number("pad_value") if args.has("pad_value") else None,
        )

    def crops(self, picture: Tensor, boxes: Tensor) -> Tensor:
        """Cut ``[N, 4]`` boxes out of ``[N, C, H, W]`` pictures."""
        firsts, lasts = boxes.double().unflatten(1, (2, 2)).unbind(1)
        if self.width_first:
            firsts, lasts = firsts.flip(1), lasts.flip(1)
        for axis, (size, count) in enumerate(zip(picture.shape[2:], self.sizes, strict=True)):
            unit = self.scale * (size - 1 if self.normalized else 1)
            places = self._places(firsts[:, axis] * unit, lasts[:, axis] * unit, count)
            picture = self._sampled(picture, axis + 2, places)
        return picture

    def _places(self, first: Tensor, last: Tensor, count: int) -> Tensor:
        steps = torch.arange(count, dtype=torch.float64)
        if self.mode == "OFFSET_CORNERS":
            if bool((last - first < 1).any()):
                message = "OFFSET_CORNERS of a box shorter than 1 is not implemented"
                raise ValueError(message)
            steps = (steps + 0.5) / count
        elif count > 1:
            steps = steps / (count - 1)
        elif self.mode == "ALIGN_CORNERS":
            steps = steps + 0.5
        return first[:, None] * (1 - steps) + last[:, None] * steps

    def _sampled(self, picture: Tensor, axis: int, places: Tensor) -> Tensor:
        """Interpolate along an axis, at ``[N, count]`` places."""
        size = picture.shape[axis]
        outside = (places < 0) | (places > size - 1)
        if self.pad_value is None and bool(outside.any()):
            message = "a box reaches beyond the picture, and there is no pad_value"
            raise ValueError(message)
        low = places.clamp(0, size - 1).floor()
        shape = [places.shape[0], 1, 1, 1]
        shape[axis] = places.shape[1]
        weight, hidden = (places - low).float().reshape(shape), outside.reshape(shape)
        ends = (low.long(), (low.long() + 1).clamp(max=size - 1))
        before, after = (torch.take_along_dim(picture, end.reshape(shape), axis) for end in ends)
        return torch.lerp(before, after, weight).masked_fill(hidden, self.pad_value or 0.0)


def _default_mode(args: Arguments) -> str:
    return args.refuse("sampling_mode", f"'DEFAULT' is not implemented; implemented: {', '.join(_MODES)}")


def _crop_resize(args: Arguments) -> Kernel:
    sampling = _Sampling.of(args)
    if args.has("roi"):
        return args.kernel(lambda x, rois: _of_rois(sampling, x, rois[:, 0, :, 0, 0]), "x", "roi")

    def run(x: Tensor, boxes: Tensor, pictures: Tensor | None) -> Tensor:
        indices = torch.arange(boxes.shape[0]) if pictures is None else pictures.long()
        return sampling.crops(x[indices], boxes)

    return args.kernel(run, "x", "boxes", "box_indices?")


def _of_rois(sampling: _Sampling, x: Tensor, rois: Tensor) -> Tensor:
    """Every box from every picture, or each from the picture it names."""
    if rois.shape[1] == 5:
        return sampling.crops(x[rois[:, 0].long()], rois[:, 1:]).unsqueeze(1)
    count, batch = rois.shape[0], x.shape[0]
    crops = sampling.crops(x.repeat(count, 1, 1, 1), rois.repeat_interleave(batch, 0))
    return crops.reshape(count, batch, *crops.shape[1:])


PLANNERS: Final[Mapping[str, Planner]] = {"crop_resize": _crop_resize}
