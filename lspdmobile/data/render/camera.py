"""What a camera does to a scene: exposure, colour cast, blur, noise, lost colour resolution."""

import numpy as np
from numpy.typing import NDArray

from lspdmobile.data.render.geometry import Floats

__all__ = ["photograph"]


def _soften(pixels: Floats, strength: float) -> Floats:
    """Mix each channel with its 3x3 mean."""
    padded = np.pad(pixels, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    blurred = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) * np.float32(1 / 9)
    mixed: Floats = pixels + (blurred - pixels) * np.float32(strength)
    return mixed


def _luma(pixels: Floats) -> Floats:
    """Give the brightness [h,w,1] of a picture [h,w,3]."""
    r, g, b = pixels[..., 0:1], pixels[..., 1:2], pixels[..., 2:3]
    luma: Floats = r * np.float32(0.3) + g * np.float32(0.59) + b * np.float32(0.11)
    return luma


def _subsample_colour(pixels: Floats) -> Floats:
    """Halve the resolution of the colour differences, as JPEG's 4:2:0 does."""
    luma = _luma(pixels)
    chroma = pixels - luma
    mean = (chroma[0::2, 0::2] + chroma[1::2, 0::2] + chroma[0::2, 1::2] + chroma[1::2, 1::2]) * np.float32(0.25)
    coarse: Floats = np.repeat(np.repeat(mean, 2, axis=0), 2, axis=1)
    return luma + coarse


def photograph(pixels: Floats, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn a clean picture into a photograph.

    Args:
        pixels: float32 [h,w,3], 0 to 1; h and w even.
        rng: Source of every choice.

    Returns:
        uint8 [h,w,3], rounded.
    """
    gain, contrast = np.float32(rng.uniform(0.7, 1.25)), np.float32(rng.uniform(-0.15, 0.35))
    cast: Floats = (1 + rng.uniform(-0.07, 0.07, 3)).astype(np.float32)
    exposed: Floats = pixels * gain * cast
    pixels = np.minimum(exposed, np.float32(1))
    # A cubic that keeps 0, 1/2 and 1 and steepens or flattens the middle.
    centred: Floats = pixels * np.float32(2) - np.float32(1)
    square: Floats = centred * centred
    middle: Floats = centred * (np.float32(1) - square)
    lifted: Floats = contrast * np.float32(0.5) * middle
    pixels = pixels + lifted
    if rng.random() < 0.6:
        pixels = _soften(pixels, float(rng.uniform(0.2, 1.0)))
    if rng.random() < 0.06:
        pixels = _soften(_soften(pixels, 1.0), 1.0)
    if rng.random() < 0.06:
        pixels = np.repeat(_luma(pixels), 3, axis=2)
    noise = np.float32(rng.uniform(0.0, 0.025) if rng.random() < 0.7 else 0.0)
    pixels = pixels + noise * rng.standard_normal(pixels.shape, dtype=np.float32)
    if rng.random() < 0.5:
        pixels = _subsample_colour(pixels)
    levels = np.clip(pixels, np.float32(0), np.float32(1)) * np.float32(255)
    rounded: NDArray[np.uint8] = np.floor(levels + np.float32(0.5)).astype(np.uint8)
    return rounded
