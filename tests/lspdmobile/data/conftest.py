"""Label files in COCO-keypoint form, made to be changed."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lspdmobile.skeleton import LSP_14, Skeleton

Coco = dict[str, Any]
WriteSet = Callable[..., Path]


def joints(skeleton: Skeleton, *, first: float = 10.0) -> list[float]:
    """Give labels whose joint k stands at (first + k, first + 2k), all of them seen."""
    return [v for k in range(skeleton.count) for v in (first + k, first + 2 * k, 2)]


def coco_of(skeleton: Skeleton, pictures: int = 3) -> Coco:
    """One person per picture; picture i is ``i.png`` and its person stands i pixels further."""
    return {
        "images": [{"id": 10 + i, "file_name": f"{i}.png"} for i in range(pictures)],
        "annotations": [
            {
                "id": 100 + i,
                "image_id": 10 + i,
                "keypoints": joints(skeleton, first=10.0 + i),
                "bbox": [5, 6, 30, 50],
                "area": 900.0,
                "iscrowd": 0,
            }
            for i in range(pictures)
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": list(skeleton.keypoints)}],
    }


@pytest.fixture
def write_set(tmp_path: Path) -> WriteSet:
    """Write a labelled folder with random pictures; ``change`` edits the labels first."""

    def write(
        change: Callable[[Coco], object] | None = None,
        *,
        skeleton: Skeleton = LSP_14,
        pictures: int = 3,
        names: Sequence[str] = ("person_keypoints_val.json",),
    ) -> Path:
        coco = coco_of(skeleton, pictures)
        if change is not None:
            change(coco)
        root = tmp_path / "set"
        for folder in ("images", "annotations"):
            (root / folder).mkdir(parents=True)
        for name in names:
            (root / "annotations" / name).write_text(json.dumps(coco), encoding="utf-8")
        for i in range(pictures):
            pixels = np.random.default_rng(i).integers(0, 256, (80, 60, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "images" / f"{i}.png")
        return root

    return write
