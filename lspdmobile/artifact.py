"""Artifacts (what an emitter writes) and executors (what runs one).

``Converter`` is the one interface every format implements; ``converters.FORMATS`` lists them.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lspdmobile.choices import Format, Layout, Precision
from lspdmobile.delegation import Delegation
from lspdmobile.encodings import Encoding
from lspdmobile.errors import BadInputError
from lspdmobile.operators import Duplicate, Grid, Leftovers, Operator
from lspdmobile.shortfall import Shortfall

if TYPE_CHECKING:
    from torch import nn

    from lspdmobile.graph_decode import GraphDecode
    from quantization.pictures import Pictures
    from quantization.plan import QuantizationPlan

__all__ = [
    "Artifact",
    "ArtifactFacts",
    "Converter",
    "Delegation",
    "EmitRequest",
    "Executor",
    "Part",
    "PrecisionLoss",
    "TensorFacts",
    "sha256_of",
    "size_in_bytes",
]


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
        image_input: The input is an image that the artifact normalises itself (Core ML packages; needs the entry
            ``preprocess`` of ``metadata``).
        decode: What gives keypoints ``[1, K, 3]`` as a second output; None for heatmaps only.
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
    image_input: bool = False
    decode: "GraphDecode | None" = None


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
    """An input or output as the file states it.

    Attributes:
        name: In the file's own words, by position where it has none.
        shape: -1 for lengths that are not fixed.
        dtype: Such as ``float32``.
        description: Empty where there is none.
        sizes: What lengths are allowed where some are not fixed, in words; empty where the file does not say.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    description: str = ""
    sizes: str = ""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A signature, subgraph, function, method or model, of a file that has several.

    Attributes:
        kind: Which of these.
        name: As the file names it.
        inputs, outputs: Its own.
        operators: Their number.
        macs: Multiply-accumulates of these operators; None where they are not counted.
        main: Whether inputs, outputs, operators and delegation of the whole file are this part's.
    """

    kind: str
    name: str
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    operators: int
    macs: int | None
    main: bool = False


@dataclass(frozen=True, kw_only=True)
class ArtifactFacts:
    """What is really inside an artifact, read from the file.

    Attributes:
        inputs, outputs: As the file states them; of a file with several parts, the main one's.
        weight_bytes_by_dtype: Bytes of constants by dtype name (``int8``, ``float32``…), of all parts.
        ops: Operator type to count, of all parts.
        delegation: None where it cannot be known from the file on this machine.
        metadata: Text entries stored in the file.
        weight_bytes_by_layer: Operator, as the file names it, to what it reads of ``weight_bytes_by_dtype``.
        operators: Each operator that computes something from the input, in the order of execution; the main part's.
        forecasts: What published rules say of targets that cannot be asked here.
        grids: Of every quantized tensor.
        duplicates: Constants that are stored more than once.
        leftovers: What computes in float in a file of integers; None where the file computes in float anyway.
        layout: Of a picture that goes in, ``nchw`` or ``nhwc``; None where its shape does not show it.
        parts: All of them, where a file has several.
        encodings: Constants that are stored in another form than operators read.
        elsewhere: Bytes of constants that other files hold, by the name they go under.
        unopened: Bytes that nothing here opens, such as those of unknown delegates, by what they belong to.
        undelegated: Why ``delegation`` is None, where something said so.
    """

    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    weight_bytes_by_dtype: Mapping[str, int]
    ops: Mapping[str, int]
    delegation: Delegation | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    weight_bytes_by_layer: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    operators: tuple[Operator, ...] = ()
    forecasts: tuple[Delegation, ...] = ()
    grids: tuple[Grid, ...] = ()
    duplicates: tuple[Duplicate, ...] = ()
    leftovers: Leftovers | None = None
    layout: str | None = None
    parts: tuple[Part, ...] = ()
    encodings: tuple[Encoding, ...] = ()
    elsewhere: Mapping[str, int] = field(default_factory=dict)
    unopened: Mapping[str, int] = field(default_factory=dict)
    undelegated: str = ""


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

    def keypoints(self, pictures: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Give the keypoints ``[N, K, 3]`` that an artifact decodes itself; None where it gives heatmaps only."""
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
