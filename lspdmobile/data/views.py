"""Views: pictures cut and resized by the preprocess contract, with their labels where there are any."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lspdmobile.data.coco import LabelledSet, Person, read_labelled_set
from lspdmobile.data.pictures import list_pictures, read_picture
from lspdmobile.errors import BadInputError
from lspdmobile.preprocess import Crop, PreprocessContract
from lspdmobile.skeleton import Skeleton

__all__ = ["ViewFiles", "Views", "find_views", "load_views", "relabelled", "started_digest", "view_of"]

_FEWEST_SHARED_JOINTS: Final = 6


@dataclass(frozen=True, kw_only=True)
class Views:
    """What the network sees of a set of pictures.

    Attributes:
        source: Where the pictures came from, for reports.
        names: File name of each view.
        pixels: uint8 ``[N, rows, columns, 3]`` RGB, input-sized, not normalised.
        crops: Window of each view in its picture.
        persons: Labels in the student's skeleton, one per view; empty without labels.
        contract: What made them.
    """

    source: str
    names: tuple[str, ...]
    pixels: NDArray[np.uint8]
    crops: tuple[Crop, ...]
    persons: tuple[Person, ...]
    contract: PreprocessContract

    def __len__(self) -> int:
        return len(self.names)

    def inputs(self, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Give normalised inputs float32 ``[n, 3, rows, columns]`` of a stretch of the views."""
        return np.stack([self.contract.normalise(p) for p in self.pixels[start:stop]])

    def to_pictures(self, keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map keypoints ``[N, K, 3]`` from input pixels to pixels of each view's own picture."""
        pairs = zip(keypoints, self.crops, strict=True)
        return np.stack([self.contract.to_picture(points, crop) for points, crop in pairs])

    def sha256(self) -> str:
        """Hash the names and pixels in order."""
        digest = started_digest(self.names)
        digest.update(np.ascontiguousarray(self.pixels).tobytes())
        return digest.hexdigest()


def started_digest(names: Iterable[str]) -> "hashlib._Hash":
    """Begin the hash of views; their pixels, uint8 in C order, are to follow."""
    return hashlib.sha256("\n".join(names).encode())


def load_views(
    path: Path,
    contract: PreprocessContract,
    skeleton: Skeleton,
    *,
    split: str = "val",
    limit: int | None = None,
    seed: int = 0,
) -> Views:
    """Read a labelled set (every labelled person) or a plain folder (every picture, whole).

    Args:
        path: COCO-keypoint ``.json``, folder with ``annotations/``, or folder of pictures.
        contract: How to cut and resize.
        skeleton: The student's; labels of another one keep the joints of the same name.
        split: Which label file of a folder is preferred, by a word in its name.
        limit: Take at most this many views, drawn by ``seed``, in their original order.
        seed: Of the draw.

    Raises:
        BadInputError: Nothing usable is there, or ``limit`` is below 1.
    """
    return find_views(path, contract, skeleton, split=split, limit=limit, seed=seed).read()


def find_views(
    path: Path,
    contract: PreprocessContract,
    skeleton: Skeleton,
    *,
    split: str = "val",
    limit: int | None = None,
    seed: int = 0,
) -> "ViewFiles":
    """Find the views that :func:`load_views` reads, without reading a picture; arguments and errors are the same."""
    if limit is not None and limit < 1:
        message = f"{path}: at least 1 picture is needed, {limit} asked for"
        raise BadInputError(message)
    if path.is_file() or (path / "annotations").is_dir():
        persons = relabelled(read_labelled_set(path, split=split), skeleton)
    else:
        persons = ()
    files = [p.picture for p in persons] if persons else list_pictures(path)
    chosen = _drawn(len(files), limit, seed)
    return ViewFiles(
        source=str(path),
        files=tuple(files[i] for i in chosen),
        persons=tuple(persons[i] for i in chosen) if persons else (),
        contract=contract,
    )


@dataclass(frozen=True, kw_only=True)
class ViewFiles:
    """Views whose pictures are read one by one, each time they are asked for.

    Attributes:
        source: Where the pictures are, for reports.
        files: The picture of each view.
        persons: Labels in the student's skeleton, one per view; empty without labels.
        contract: How to cut and resize.
    """

    source: str
    files: tuple[Path, ...]
    persons: tuple[Person, ...]
    contract: PreprocessContract

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Read each view: RGB ``[rows, columns, 3]``, input-sized, not normalised.

        Raises:
            BadInputError: A picture cannot be read, or a person not be cut out of it.
        """
        for index in range(len(self)):
            yield self._view(index)[0]

    @property
    def names(self) -> tuple[str, ...]:
        """File name of each view."""
        return tuple(file.name for file in self.files)

    def inputs(self, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Give normalised inputs float32 ``[n, 3, rows, columns]`` of a stretch of the views."""
        wanted = range(len(self))[start:stop]
        return np.stack([self.contract.normalise(self._view(index)[0]) for index in wanted])

    def read(self) -> Views:
        """Read all of them."""
        crops: list[Crop] = []
        pixels = np.empty((len(self), *self.contract.input_size, 3), np.uint8)
        for index in range(len(self)):
            pixels[index], crop = self._view(index)
            crops.append(crop)
        return Views(
            source=self.source,
            names=self.names,
            pixels=pixels,
            crops=tuple(crops),
            persons=self.persons,
            contract=self.contract,
        )

    def _view(self, index: int) -> tuple[NDArray[np.uint8], Crop]:
        picture = read_picture(self.files[index])
        person = self.persons[index] if self.persons else None
        crop = self.contract.crop_for(
            (picture.shape[0], picture.shape[1]),
            keypoints=person.keypoints if person else None,
            box=person.box if person else None,
        )
        return self.contract.cut(picture, crop), crop


def relabelled(labelled: LabelledSet, skeleton: Skeleton) -> tuple[Person, ...]:
    """Give the persons with their labels in another skeleton: joints of the same name, the rest not labelled.

    Persons that keep no labelled joint are left out.

    Raises:
        BadInputError: The two skeletons share too few joints to measure anything, or no person keeps a labelled one.
    """
    if labelled.skeleton.keypoints == skeleton.keypoints:
        return labelled.persons
    source = {name: i for i, name in enumerate(labelled.skeleton.keypoints)}
    shared = [(k, source[name]) for k, name in enumerate(skeleton.keypoints) if name in source]
    if len(shared) < min(_FEWEST_SHARED_JOINTS, skeleton.count):
        message = (
            f"{labelled.annotations}: labels follow {labelled.skeleton.name}, which shares {len(shared)} joints "
            f"with the student's {skeleton.name}; give labels in {skeleton.name}"
        )
        raise BadInputError(message)
    ours, theirs = (list(column) for column in zip(*shared, strict=True))
    kept: list[Person] = []
    for person in labelled.persons:
        keypoints = np.zeros((skeleton.count, 3), np.float32)
        keypoints[ours] = person.keypoints[theirs]
        if (keypoints[:, 2] > 0).any():
            kept.append(replace(person, keypoints=keypoints))
    if not kept:
        message = f"{labelled.annotations}: no joint that {skeleton.name} has is labelled in it"
        raise BadInputError(message)
    return tuple(kept)


def _drawn(count: int, limit: int | None, seed: int) -> list[int]:
    if limit is None or limit >= count:
        return list(range(count))
    return sorted(np.random.default_rng(seed).choice(count, size=limit, replace=False).tolist())


def view_of(
    picture: NDArray[np.uint8],
    contract: PreprocessContract,
    *,
    name: str,
    box: tuple[float, float, float, float] | None = None,
) -> Views:
    """Give the one view of a picture ``[H, W, 3]``: around a person's box, or of the whole picture.

    Raises:
        BadInputError: The box (x, y, width, height) is empty or not finite.
    """
    if box is not None and not (box[2] > 0 and box[3] > 0):
        message = f"{name}: a box {box[2]:g} pixels wide and {box[3]:g} high holds nobody; give x, y, width, height"
        raise BadInputError(message)
    crop = contract.crop_for((picture.shape[0], picture.shape[1]), box=box)
    return Views(
        source=name,
        names=(name,),
        pixels=contract.cut(picture, crop)[None],
        crops=(crop,),
        persons=(),
        contract=contract,
    )
