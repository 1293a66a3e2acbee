"""Named LSPD-style networks."""

from collections.abc import Mapping
from typing import Final

from lspdmobile.errors import BadInputError
from lspdmobile.networks.lspd import LspdConfig

__all__ = ["PRESETS", "preset"]

PRESETS: Final[Mapping[str, LspdConfig]] = {
    "lspd-s": LspdConfig(
        keypoints=14,
        input_size=(192, 192),
        trunk="pyramid",
        pyramid_channels=(16, 32, 64, 96, 144),
        pyramid_blocks=(1, 2, 2, 1),
        features=64,
        detail=32,
        mid_channels=64,
        blocks=2,
        stages=2,
    ),
    "lspd-m": LspdConfig(
        keypoints=16,
        input_size=(256, 256),
        trunk="mobilenet",
        width=1.0,
        features=128,
        mid_channels=64,
        blocks=3,
        stages=3,
    ),
}


def preset(name: str) -> LspdConfig:
    """Look a preset up by name.

    Raises:
        BadInputError: No preset has that name.
    """
    try:
        return PRESETS[name]
    except KeyError:
        message = f"unknown preset {name!r}: choose from {', '.join(PRESETS)}"
        raise BadInputError(message) from None
