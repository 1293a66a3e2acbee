"""COCO-keypoint label files: read, checked against a skeleton, one :class:`Person` per labelled body."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from lspdmobile.errors import BadInputError
from lspdmobile.skeleton import SKELETONS, Skeleton

__all__ = ["LabelledSet", "Person", "read_labelled_set"]


@dataclass(frozen=True, kw_only=True)
class Person:
    """One labelled body.

    Attributes:
        picture: File it stands in.
        keypoints: float32 ``[K, 3]``: x, y in picture pixels (continuous, the picture spans 0..width), visibility
            (0 not labelled, 1 labelled and hidden, 2 labelled and seen).
        box: x, y, width, height in picture pixels.
        area: Object area in square pixels (OKS scale squared).
        annotation_id: Identifier in the label file.
        image_id: Identifier of the picture in the label file.
        head_box: x, y, width, height of the head in picture pixels, as MPII labels it; None where it is not known.
    """

    picture: Path
    keypoints: NDArray[np.float32]
    box: tuple[float, float, float, float]
    area: float
    annotation_id: int
    image_id: int
    head_box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class LabelledSet:
    """Persons of one label file, with the skeleton their keypoints follow."""

    annotations: Path
    skeleton: Skeleton
    persons: tuple[Person, ...]


class _Image(BaseModel):
    id: int
    file_name: str


class _Annotation(BaseModel):
    id: int
    image_id: int
    keypoints: list[float] = Field(default_factory=list)
    bbox: Annotated[list[float], Field(min_length=4, max_length=4)] | None = None
    head_box: tuple[float, float, float, float] | None = None
    area: float | None = None
    iscrowd: int = 0


class _Category(BaseModel):
    id: int
    keypoints: list[str] = Field(default_factory=list)


class _CocoFile(BaseModel):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def read_labelled_set(path: Path, *, split: str = "val") -> LabelledSet:
    """Read a COCO-keypoint label file, or the one inside a folder (``annotations/*.json`` beside ``images/``).

    Persons without a labelled keypoint and crowd regions are left out, as COCO's own evaluation does. A box or an area
    that is missing or empty is taken from the labelled joints.

    Args:
        path: A ``.json`` file or a folder.
        split: Of several label files in a folder, the one with this word in its name is read (``val`` also stands for
            ``val2017``), else the first by name.

    Raises:
        BadInputError: The file is missing or malformed, its keypoints follow no known skeleton, or pictures are missing
            (the message counts them and names the first).
    """
    file = _annotation_file(path, split)
    coco = _parse(file)
    found = _skeleton_of(coco, file)
    pictures = _pictures(coco, file)
    read = (_person(a, pictures, found, file) for a in coco.annotations if not a.iscrowd and any(a.keypoints))
    persons = tuple(person for person in read if person is not None)
    if not persons:
        message = f"{file}: holds no labelled person"
        raise BadInputError(message)
    return LabelledSet(annotations=file, skeleton=found, persons=persons)


def _annotation_file(path: Path, split: str) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        message = f"{path}: no such label file or folder"
        raise BadInputError(message)
    files = sorted((path / "annotations").glob("person_keypoints*.json"))
    files = files or sorted((path / "annotations").glob("*.json"))
    if not files:
        message = f"{path}: no annotations/*.json in it; give a COCO-keypoint label file"
        raise BadInputError(message)
    return next((f for f in files if split in re.split(r"[^a-z]+", f.stem.lower())), files[0])


def _parse(file: Path) -> _CocoFile:
    try:
        raw: Any = json.loads(file.read_text(encoding="utf-8"))
        return _CocoFile.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        message = f"{file}: not a COCO-keypoint file: {where}: {first['msg']} ({error.error_count()} faults in all)"
        raise BadInputError(message) from error
    except (OSError, RecursionError, ValueError) as error:
        message = f"{file}: not readable as JSON ({error})"
        raise BadInputError(message) from error


def _skeleton_of(coco: _CocoFile, file: Path) -> Skeleton:
    names = next((tuple(c.keypoints) for c in coco.categories if c.keypoints), ())
    known = next((skeleton for skeleton in SKELETONS.values() if skeleton.keypoints == names), None)
    if known is None and not names:
        message = f"{file}: categories[].keypoints names no joints, so nothing says what its keypoints are"
        raise BadInputError(message)
    return known or Skeleton(name=f"{len(names)} joints of its own", keypoints=names)


def _pictures(coco: _CocoFile, file: Path) -> dict[int, Path]:
    root = file.parent.parent / "images" if file.parent.name == "annotations" else file.parent
    if not root.is_dir():
        root = file.parent
    pictures = {image.id: root / image.file_name for image in coco.images}
    missing = [p for p in pictures.values() if not p.is_file()]
    if missing:
        message = f"{file}: {len(missing)} of {len(pictures)} pictures are missing, first {missing[0]}"
        raise BadInputError(message)
    return pictures


def _person(note: _Annotation, pictures: dict[int, Path], skeleton: Skeleton, file: Path) -> Person | None:
    """Check one annotation; None where no joint of it is labelled."""
    if len(note.keypoints) != 3 * skeleton.count:
        message = (
            f"{file}: annotation {note.id} has {len(note.keypoints)} keypoint numbers, "
            f"{3 * skeleton.count} expected for {skeleton.name}"
        )
        raise BadInputError(message)
    if note.image_id not in pictures:
        message = f"{file}: annotation {note.id} names picture {note.image_id}, which images[] does not list"
        raise BadInputError(message)
    keypoints = np.asarray(note.keypoints, dtype=np.float32).reshape(-1, 3)
    if not np.isfinite((*keypoints.flat, *(note.bbox or ()), *(note.head_box or ()), note.area or 0)).all():
        message = f"{file}: annotation {note.id} has a keypoint, box or area that is not a finite number"
        raise BadInputError(message)
    if not (keypoints[:, 2] > 0).any():
        return None
    given = note.bbox is not None and min(note.bbox[2:]) > 0
    box = (note.bbox[0], note.bbox[1], note.bbox[2], note.bbox[3]) if note.bbox and given else _joint_box(keypoints)
    return Person(
        picture=pictures[note.image_id],
        keypoints=keypoints,
        box=box,
        area=note.area if note.area and note.area > 0 else max(box[2] * box[3], 1.0),
        annotation_id=note.id,
        image_id=note.image_id,
        head_box=note.head_box,
    )


def _joint_box(keypoints: NDArray[np.float32]) -> tuple[float, float, float, float]:
    seen = keypoints[keypoints[:, 2] > 0, :2]
    low, high = seen.min(axis=0), seen.max(axis=0)
    return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])
