"""Reading pictures: every file becomes RGB uint8, upright, or one clear error."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lspdmobile.errors import BadInputError

__all__ = ["PICTURE_SUFFIXES", "list_pictures", "read_picture"]

PICTURE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
_SMALLEST_SIDE: Final = 8


def list_pictures(folder: Path) -> list[Path]:
    """Give the pictures of a folder, sorted by name; of its ``images`` folder where it holds none itself.

    Hidden files are passed over: macOS leaves ``._name.jpg`` files that are no pictures.

    Raises:
        BadInputError: The folder is missing or holds no picture.
    """
    if not folder.is_dir():
        message = f"{folder}: no such folder of pictures"
        raise BadInputError(message)
    for place in (folder, folder / "images"):
        found = sorted(
            p
            for p in place.glob("*")
            if p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith(".") and p.is_file()
        )
        if found:
            return found
    message = f"{folder}: holds no picture ({', '.join(sorted(PICTURE_SUFFIXES))})"
    raise BadInputError(message)


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read one picture as RGB ``[H, W, 3]`` uint8, turned upright by its EXIF orientation.

    16-bit greyscale is scaled to 8 bits, CMYK and palettes are converted, transparency is laid on black. 32-bit
    greyscale that spans no more than 0..1 or 0..255 is taken to have that scale, and 0..65535 otherwise.

    Raises:
        BadInputError: The file is missing, unreadable, truncated or smaller than 8 x 8 pixels.
    """
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            pixels = _to_rgb(picture)
    except FileNotFoundError:
        message = f"{path}: no such picture"
        raise BadInputError(message) from None
    except Exception as error:  # Pillow's decoders raise many kinds; every one means the file cannot be used
        message = f"{path}: not a readable picture ({error}); replace or remove the file"
        raise BadInputError(message) from error
    if min(pixels.shape[:2]) < _SMALLEST_SIDE:
        height, width = pixels.shape[:2]
        message = (
            f"{path}: {width}x{height} pixels is too small (at least {_SMALLEST_SIDE}x{_SMALLEST_SIDE}); remove it"
        )
        raise BadInputError(message)
    return pixels


def _to_rgb(picture: Image.Image) -> NDArray[np.uint8]:
    if picture.mode.startswith(("I", "F")):
        wide = np.nan_to_num(np.asarray(picture, dtype=np.float64))
        most = wide.max(initial=0.0)
        if picture.mode.startswith("I;16") or most > 255:
            wide = wide / 257
        elif picture.mode == "F" and most <= 1:
            wide = wide * 255
        grey = np.clip(np.rint(wide), 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(black, rgba)
    return np.array(picture.convert("RGB"), dtype=np.uint8)
