"""Artifacts (what an emitter writes), executors (what runs one) and safe writing.

``Converter`` is the one interface every format implements; ``converters.FORMATS`` lists them.
"""

import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from lspdmobile.choices import Format, Layout, Precision
from lspdmobile.errors import BadInputError
from lspdmobile.shortfall import Shortfall

if TYPE_CHECKING:
    from torch import nn

    from quantization.pictures import Pictures
    from quantization.plan import QuantizationPlan

__all__ = [
    "Artifact",
    "ArtifactFacts",
    "Converter",
    "Delegation",
    "EmitRequest",
    "Executor",
    "PrecisionLoss",
    "TensorFacts",
    "replacing_folder",
    "sha256_of",
    "size_in_bytes",
]

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
_PARTIAL: Final = "partial"
_REPLACED: Final = "replaced"


@dataclass(frozen=True, kw_only=True)
class EmitRequest:
    """What one emission needs.

    Attributes:
        network: Fused float student in eval mode; maps ``[1, 3, H, W]`` to heatmaps ``[1, K, h, w]``.
        plan: Precision and calibrated ranges for this artifact.
        input_size: Rows and columns H, W.
        layout: Axis order of the artifact's input and output.
        metadata: JSON-able text entries written into the artifact where the format allows it.
        deployment_target: Lowest iOS version for Core ML, such as ``"iOS17"``.
        path: File or folder to write; does not exist yet.
        keep_fp32: Operations that stay in float32 in a float16 file, by the names ``precision_losses`` gives.
        calibration: The calibration pictures, read only for what a file computes and the plan has no range for.
    """

    network: "nn.Module"
    plan: "QuantizationPlan"
    input_size: tuple[int, int]
    layout: Layout
    metadata: Mapping[str, str]
    deployment_target: str
    path: Path
    keep_fp32: frozenset[str] = frozenset()
    calibration: "Pictures | None" = None


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One emitted file or folder.

    Attributes:
        path: Where it lies.
        format, precision, layout: What was asked for.
        seconds: Wall time of the emission.
        notes: What the runtime could not honour, in words; shown in the report.
        not_honoured: The same layer by layer.
    """

    path: Path
    format: Format
    precision: Precision
    layout: Layout
    seconds: float
    notes: tuple[str, ...] = ()
    not_honoured: tuple[Shortfall, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TensorFacts:
    """Name, shape and dtype of an input or output as the file states them."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, kw_only=True)
class Delegation:
    """How many operators the fast path takes.

    Attributes:
        delegate: Name of the delegate.
        delegated, total: Operator counts.
        not_delegated: Operator types left behind, with multiplicity.
    """

    delegate: str
    delegated: int
    total: int
    not_delegated: tuple[str, ...] = ()

    @property
    def fraction(self) -> float:
        """Delegated over total; 1 for an empty program."""
        return self.delegated / self.total if self.total else 1.0


@dataclass(frozen=True, kw_only=True)
class ArtifactFacts:
    """What is really inside an artifact, read from the file.

    Attributes:
        inputs, outputs: As the file states them.
        weight_bytes_by_dtype: Bytes of constants by dtype name (``int8``, ``float32``…).
        ops: Operator type to count.
        delegation: None where it cannot be known from the file on this machine.
        metadata: Text entries stored in the file.
    """

    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    weight_bytes_by_dtype: Mapping[str, int]
    ops: Mapping[str, int]
    delegation: Delegation | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PrecisionLoss:
    """A value that a file's float16 arithmetic does not hold well.

    Attributes:
        name: The value, as the file names it.
        made_by: Kind and name of the operation that makes it.
        why: What is lost, in words.
        keep_fp32: Operations that would have to stay in float32 to mend it, for ``EmitRequest.keep_fp32``.
    """

    name: str
    made_by: str
    why: str
    keep_fp32: frozenset[str]


class Executor(Protocol):
    """Runs an artifact that was read back from disk."""

    @property
    def name(self) -> str:
        """What ran it, with its version, such as ``LiteRT 2.3.0 (XNNPACK)``."""
        ...

    @property
    def caveat(self) -> str:
        """What this run cannot show, as one sentence; empty where the runtime is the one that phones use."""
        ...

    def heatmaps(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map normalised pictures ``[N, 3, H, W]`` to heatmaps ``[N, K, h, w]``; NCHW whatever the file's layout."""
        ...


class Converter(Protocol):
    """One format: a module with these constants and functions satisfies it.

    Attributes:
        SUFFIX: Ending of the artifact's name, such as ``.tflite``.
        COST_TARGET: Name of the cost target (``lspdmobile.fusion.targets``) that stands for what runs the artifact.
        WHY_NOT: Precision to the reason why the format does not take it.
    """

    SUFFIX: str
    COST_TARGET: str
    WHY_NOT: Mapping[Precision, str]

    def emit(self, request: EmitRequest) -> Artifact:
        """Write the artifact.

        Raises:
            ConversionError: The runtime's converter refused; the message names the precision and the cause.
            EnvironmentLacksError: A package is absent.
        """
        ...

    def open_executor(self, path: Path, *, threads: int = 1) -> Executor:
        """Load an artifact from disk for execution."""
        ...

    def inspect(self, path: Path) -> ArtifactFacts:
        """Read what is inside an artifact, ours or not."""
        ...

    def supported(self) -> Mapping[Precision, Layout]:
        """Give the precisions this format takes and each one's default layout."""
        ...

    def precision_losses(self, path: Path, pictures: NDArray[np.float32]) -> tuple[PrecisionLoss, ...]:
        """Tell what float16 arithmetic loses in a file on normalised pictures ``[N, 3, H, W]``.

        A float16 file is taken as it is, a float32 file as if it computed in float16; empty where this runtime computes
        in float32 whatever the weights' type.
        """
        ...

    def misfit(self, precision: Precision, layout: Layout, deployment_target: str) -> str | None:
        """Say why a precision it takes cannot be had so, as far as is known before any conversion; None if it can."""
        ...


def sha256_of(path: Path) -> str:
    """Hash a file by its bytes, or a folder by its files in the order of their relative names (forward slashes).

    Of each of them the name, a zero byte, the length as 8 bytes (big-endian) and the bytes are hashed.

    Raises:
        BadInputError: Nothing is there.
    """
    digest = hashlib.sha256()
    if path.is_file():
        _feed(digest, path)
        return digest.hexdigest()
    for name, file in sorted((f.relative_to(path).as_posix(), f) for f in _files_in(path)):
        digest.update(name.encode() + b"\0" + file.stat().st_size.to_bytes(8, "big"))
        _feed(digest, file)
    return digest.hexdigest()


def size_in_bytes(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; BadInputError where nothing is."""
    return path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in _files_in(path))


def _files_in(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        message = f"{folder}: no such file or folder"
        raise BadInputError(message)
    return (file for file in folder.rglob("*") if file.is_file())


def _feed(digest: Any, file: Path) -> None:
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)


@contextmanager
def replacing_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary sibling folder that takes the target's place on success and is removed on any failure.

    A process that is killed outright leaves at most hidden siblings ``.<name>.<pid>.*``, never a half-made target; the
    next run for the same target removes them, or puts back a target that was being replaced. Links are followed.

    Raises:
        BadInputError: The target exists already, holds the current folder or the user's home, or cannot be written.
    """
    try:
        place = target.resolve()
        _remove_leftovers(place)
        _refuse(place, target, overwrite=overwrite)
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = _sibling(place, _PARTIAL)
        partial.mkdir()
    except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError
        message = f"{target}: cannot be written ({getattr(error, 'strerror', None) or error})"
        raise BadInputError(message) from error
    try:
        yield partial
        _refuse(place, target, overwrite=overwrite)
        _swap(partial, place)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in _FULL:
            message = f"{target}: cannot be written ({error.strerror}); free some space or choose another folder"
            raise BadInputError(message) from error
        raise


def _refuse(place: Path, named: Path, *, overwrite: bool) -> None:
    if not place.exists():
        return
    if not overwrite:
        message = f"{named}: already exists; choose another folder or pass --overwrite"
        raise BadInputError(message)
    if any(place in (folder, *folder.parents) for folder in (Path.cwd(), Path.home())):
        message = f"{named}: replacing it would delete the current folder or your home; choose another folder"
        raise BadInputError(message)


def _sibling(place: Path, ending: str) -> Path:
    return place.with_name(f".{place.name}.{os.getpid()}.{secrets.token_hex(4)}.{ending}")


def _remove_leftovers(place: Path) -> None:
    """Remove siblings whose process is gone; one that held the replaced target comes back where no new one is there."""
    ours = re.compile(rf"\.{re.escape(place.name)}\.(\d+)\.[0-9a-f]+\.({_PARTIAL}|{_REPLACED})")
    for leftover in sorted(place.parent.glob(".*")):
        match = ours.fullmatch(leftover.name)
        if match is None or _is_running(int(match[1])):
            continue
        if match[2] == _REPLACED and not place.exists():
            leftover.rename(place)
        else:
            _remove(leftover)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError) as error:
        return isinstance(error, PermissionError)  # it runs, as another user
    return True


def _swap(partial: Path, place: Path) -> None:
    if not place.exists():
        partial.rename(place)
        return
    old = _sibling(place, _REPLACED)
    place.rename(old)
    try:
        partial.rename(place)
    except BaseException:
        old.rename(place)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
