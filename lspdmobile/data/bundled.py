"""The labelled pictures that ship with the package: rendered people, seen by no training run.

``python -m lspdmobile.data.bundled`` renders both folders afresh. Seeds below one million are for training; the bundled
sets use their own ranges.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Final

from lspdmobile.data.render import write_rendered_set

__all__ = [
    "CALIBRATION_COUNT",
    "CALIBRATION_SEED",
    "PICTURES_COUNT",
    "PICTURES_SEED",
    "TRAINING_SEEDS",
    "bundled_calibration_pictures",
    "bundled_pictures",
    "rebuild",
]

TRAINING_SEEDS: Final = range(1_000_000)
CALIBRATION_SEED: Final = 8_000_000
CALIBRATION_COUNT: Final = 48
PICTURES_SEED: Final = 9_000_000
PICTURES_COUNT: Final = 512
JPEG_QUALITY: Final = 92

_HERE: Final = Path(__file__).parent


def bundled_pictures() -> Path:
    """Give the folder of the 512 evaluation pictures (208 px) and their COCO-keypoint labels."""
    return _HERE / "pictures"


def bundled_calibration_pictures() -> Path:
    """Give the folder of the 48 calibration pictures, in the same form and disjoint from the evaluation pictures."""
    return _HERE / "pictures_calibration"


def rebuild(root: Path = _HERE) -> tuple[Path, Path]:
    """Render both bundled folders below ``root``, replacing what is there; return them."""
    jobs = (
        (root / "pictures", PICTURES_COUNT, PICTURES_SEED),
        (root / "pictures_calibration", CALIBRATION_COUNT, CALIBRATION_SEED),
    )
    for folder, count, seed in jobs:
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=root) as workshop:
            fresh = Path(workshop) / folder.name
            write_rendered_set(fresh, count=count, seed=seed, jpeg_quality=JPEG_QUALITY)
            if folder.exists():
                shutil.rmtree(folder)
            fresh.rename(folder)
    return jobs[0][0], jobs[1][0]


if __name__ == "__main__":
    for written in rebuild():
        print(written)  # noqa: T201 (a script's own output)
