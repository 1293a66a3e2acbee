"""``manifest.json``: what an app or ``lspdmobile verify`` needs to use a run's files, with their hashes."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator

from lspdmobile.artifact import TensorFacts, sha256_of, size_in_bytes
from lspdmobile.choices import Backend, Format, Layout, Precision
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.report.files import Entry, File, read_file
from lspdmobile.skeleton import SKELETONS, Skeleton, skeleton_named

__all__ = [
    "FileEntry",
    "GoldenEntry",
    "Manifest",
    "ManifestArtifact",
    "SkeletonEntry",
    "TensorEntry",
    "file_entries",
    "read_manifest",
]

MANIFEST_SCHEMA_VERSION: Final = 1


def _inside(name: str) -> str:
    """Refuse a name that could lead out of the run's folder."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
        message = f"{name!r} is not a file name inside the run's folder"
        raise ValueError(message)
    return name


RelativeName = Annotated[str, AfterValidator(_inside)]


class FileEntry(Entry):
    """Hash and size of a file, or of a folder such as ``.mlpackage`` (see :func:`lspdmobile.artifact.sha256_of`)."""

    sha256: str
    bytes: int


class TensorEntry(Entry):
    """An input or output of an artifact."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, facts: TensorFacts) -> Self:
        """Enter what an artifact's inspection found."""
        return cls(name=facts.name, shape=facts.shape, dtype=facts.dtype)


class SkeletonEntry(Entry):
    """The keypoints: names, mirror index, drawn limbs, and what a name that the tool does not know leaves open."""

    name: str
    keypoints: tuple[str, ...]
    flip: tuple[int, ...]
    limbs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...] | None = None
    torso: tuple[int, int] | None = None
    head: tuple[int, int] | None = None

    @classmethod
    def of(cls, skeleton: Skeleton) -> Self:
        """Enter a skeleton."""
        entry = cls(name=skeleton.name, keypoints=skeleton.keypoints, flip=skeleton.flip, limbs=skeleton.limbs)
        if skeleton.name in SKELETONS:
            return entry
        more = {"sigmas": skeleton.sigmas, "torso": skeleton.torso, "head": skeleton.head}
        return entry.model_copy(update=more)

    def skeleton(self) -> Skeleton:
        """Give the skeleton that was entered."""
        if self.name in SKELETONS:
            return skeleton_named(self.name)
        return Skeleton(
            name=self.name,
            keypoints=self.keypoints,
            limbs=self.limbs,
            sigmas=self.sigmas or (),
            torso=self.torso,
            head=self.head,
            mirror=tuple((i, image) for i, image in enumerate(self.flip) if i < image),
        )


class ManifestArtifact(Entry):
    """One artifact as an app loads it; ``keypoints`` is its second output where it decodes its heatmaps itself."""

    file: RelativeName
    format: Format
    precision: Precision
    layout: Layout
    input: TensorEntry
    output: TensorEntry
    backend: Backend | None = None
    keypoints: TensorEntry | None = None


class GoldenEntry(Entry):
    """The self-test pair: an input and the keypoints it must give."""

    input: RelativeName
    expected: RelativeName


class Manifest(File):
    """``manifest.json``."""

    schema_version: Literal[1] = MANIFEST_SCHEMA_VERSION
    student: str
    checkpoint_sha256: str
    contract: dict[str, Any]
    skeleton: SkeletonEntry
    decode_rule: str
    artifacts: tuple[ManifestArtifact, ...]
    golden: GoldenEntry | None
    versions: dict[str, str]
    seed: int
    calibration_sha256: str
    evaluation_sha256: str
    files: dict[RelativeName, FileEntry]

    def preprocess(self) -> PreprocessContract:
        """Give the preprocess contract.

        Raises:
            BadInputError: A field is missing or unknown.
        """
        return PreprocessContract.from_dict(self.contract)


def file_entries(folder: Path, names: Iterable[str]) -> dict[str, FileEntry]:
    """Hash and measure files (or folders) of a run, sorted by name."""
    return {
        name: FileEntry(sha256=sha256_of(folder / name), bytes=size_in_bytes(folder / name)) for name in sorted(names)
    }


def read_manifest(path: Path) -> Manifest:
    """Read a ``manifest.json``.

    Raises:
        BadInputError: It is missing, not JSON, of another schema version, lacks a key or names a file elsewhere.
    """
    manifest = read_file(path, Manifest, version=MANIFEST_SCHEMA_VERSION)
    manifest.preprocess()
    return manifest
