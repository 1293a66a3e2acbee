"""Rendered pictures as a labelled folder in COCO-keypoint form."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

from PIL import Image

from lspdmobile.data.render.picture import RenderedPicture, render_picture
from lspdmobile.errors import BadInputError
from lspdmobile.skeleton import LSP_14

__all__ = ["LABEL_FILE", "write_rendered_set"]

LABEL_FILE: Final = "annotations/person_keypoints.json"
_DECIMALS: Final = 2


def write_rendered_set(
    folder: Path, *, count: int, seed: int, size: int = 208, jpeg_quality: int | None = None
) -> None:
    """Render ``count`` pictures into ``folder/images`` and their labels into ``folder/annotations``.

    Picture ``i`` is that of seed ``seed + i``. The folder appears complete or not at all.

    Args:
        folder: Created; its parent too.
        count: Number of pictures, at least 1.
        seed: Seed of the first picture.
        size: Side in pixels.
        jpeg_quality: 1 to 95 writes JPEG; None writes PNG, which keeps the rendered pixels.

    Raises:
        BadInputError: ``folder`` exists already, or ``count`` is below 1.
    """
    if folder.exists():
        message = f"{folder}: exists already; choose another folder or remove it"
        raise BadInputError(message)
    if count < 1:
        message = f"--count: expected at least 1 picture, found {count}"
        raise BadInputError(message)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _fill(temporary, count=count, seed=seed, size=size, jpeg_quality=jpeg_quality)
        temporary.chmod(0o755)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _fill(folder: Path, *, count: int, seed: int, size: int, jpeg_quality: int | None) -> None:
    (folder / "images").mkdir()
    labels = _empty_labels(count=count, seed=seed)
    for index in range(count):
        picture = render_picture(seed + index, size=size)
        name = f"{index:06d}.{'png' if jpeg_quality is None else 'jpg'}"
        _save(picture, folder / "images" / name, jpeg_quality)
        labels["images"].append(
            {"id": index + 1, "file_name": name, "width": size, "height": size, "seed": seed + index}
        )
        labels["annotations"].append(_annotation(picture, index + 1))
    file = folder / LABEL_FILE
    file.parent.mkdir()
    file.write_text(_one_record_a_line(labels), encoding="utf-8")


def _save(picture: RenderedPicture, file: Path, jpeg_quality: int | None) -> None:
    image = Image.fromarray(picture.pixels)
    if jpeg_quality is None:
        image.save(file)
    else:
        image.save(file, quality=jpeg_quality, optimize=True)


def _empty_labels(*, count: int, seed: int) -> dict[str, Any]:
    category = {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(LSP_14.keypoints),
        "skeleton": [[a + 1, b + 1] for a, b in LSP_14.limbs],
    }
    return {
        "info": {
            "description": "Rendered articulated figures with exact keypoints (lspdmobile.data.render)",
            "license": "Apache-2.0",
            "seed": seed,
            "count": count,
        },
        "licenses": [{"id": 1, "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}],
        "categories": [category],
        "images": [],
        "annotations": [],
    }


def _annotation(picture: RenderedPicture, index: int) -> dict[str, Any]:
    rows = [(round(float(x), _DECIMALS), round(float(y), _DECIMALS), int(v)) for x, y, v in picture.keypoints]
    left, top = min(x for x, _, _ in rows), min(y for _, y, _ in rows)
    width, height = max(x for x, _, _ in rows) - left, max(y for _, y, _ in rows) - top
    return {
        "id": index,
        "image_id": index,
        "category_id": 1,
        "iscrowd": 0,
        "crop_scale": 1.0,
        "bbox": [round(value, _DECIMALS) for value in (left, top, width, height)],
        "area": round(width * height, _DECIMALS),
        "num_keypoints": len(rows),
        "keypoints": [value for row in rows for value in row],
    }


def _one_record_a_line(labels: dict[str, Any]) -> str:
    """Write JSON whose lists have one record a line, so that a diff of two sets reads well."""
    parts = []
    for key, value in labels.items():
        if isinstance(value, list):
            records = ",\n".join(json.dumps(record) for record in value)
            parts.append(f"{json.dumps(key)}: [\n{records}\n]")
        else:
            parts.append(f"{json.dumps(key)}: {json.dumps(value)}")
    return "{" + ",\n".join(parts) + "}\n"
