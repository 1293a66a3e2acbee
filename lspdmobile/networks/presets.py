"""Named networks: the students (``-s``, and lspd-m), and the published sizes of the papers."""

from collections.abc import Mapping
from typing import Final

from lspdmobile.errors import BadInputError
from lspdmobile.networks.config import NetworkConfig
from lspdmobile.networks.hrnet import HrNetConfig
from lspdmobile.networks.ldcrn import LdcrnConfig
from lspdmobile.networks.lspd import LspdConfig
from lspdmobile.networks.okdhp import OkdhpConfig, OkdhpMobilePoseConfig

__all__ = ["PRESETS", "preset"]


def _hourglass(stacks: int, helpers: tuple[int, ...]) -> OkdhpConfig:
    """Give OKDHP's setting on MPII: half of the target's stacks are shared."""
    return OkdhpConfig(keypoints=16, input_size=(256, 256), stacks=stacks, shared=stacks // 2, helpers=helpers)


PRESETS: Final[Mapping[str, NetworkConfig]] = {
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
    "okdhp-s": OkdhpMobilePoseConfig(
        keypoints=14,
        input_size=(192, 192),
        channels=(24, 40, 80, 160),
        blocks=(2, 3, 4, 4),
        features=96,
    ),
    "ldcrn-s": LdcrnConfig(
        keypoints=14,
        input_size=(192, 192),
        stem=24,
        widths=(24, 48, 96, 160),
        first_modules=1,
        modules=(1, 1, 1),
        layers=3,
        growth=(12, 24, 36, 48),
        bottleneck=2,
        light=True,
    ),
    "okdhp-hg2": _hourglass(2, (2, 2)),
    "okdhp-hg4": _hourglass(4, (4, 4)),
    "okdhp-hg4-unbalanced": _hourglass(4, (6, 8)),
    "okdhp-hg8": _hourglass(8, (8, 8)),
    "ldcrn-coco": LdcrnConfig(keypoints=17, input_size=(256, 192)),
    "ldcrn-mpii": LdcrnConfig(keypoints=16, input_size=(256, 256)),
    "hrnet-w32": HrNetConfig(keypoints=17, input_size=(256, 192)),
}


def preset(name: str) -> NetworkConfig:
    """Look a preset up by name.

    Raises:
        BadInputError: No preset has that name.
    """
    try:
        return PRESETS[name]
    except KeyError:
        message = f"unknown preset {name!r}: choose from {', '.join(PRESETS)}"
        raise BadInputError(message) from None
