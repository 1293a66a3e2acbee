"""Second opinions: what other kernels make of an artifact than those that phones use.

Two executors of one file that disagree point at an executor, where a file that loses accuracy points at the file.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from lspdmobile.artifact import Executor
from lspdmobile.choices import Format, Precision
from lspdmobile.decode import decode
from lspdmobile.errors import BadInputError
from lspdmobile.report.schema import ArtifactEntry, SecondOpinionEntry
from lspdmobile.student import Student

if TYPE_CHECKING:
    from torch import nn

    from quantization.plan import QuantizationPlan

__all__ = ["PICTURES", "Source", "Witness", "parse_witnesses", "require_something_to_ask", "second_opinions"]

PICTURES: Final = 16
"""Of the evaluation pictures: plain loops are a hundred times slower."""

_CELLS: Final = 0.5
"""How far 95 % of the joints may be apart, in heatmap cells: as much as the gate lets a file drift."""

_FLOAT_APART: Final = 1e-4
"""How far float heatmaps may be apart, of the largest value: sums in another order, over the depth of a network."""

Maps = NDArray[np.float32]


class Witness(StrEnum):
    """Another executor."""

    REFERENCE = "litert-reference"
    """LiteRT's plain loops, for TFLite."""
    TENSORFLOW = "tensorflow"
    """TensorFlow's own interpreter with its plain loops, for TFLite; the extra ``tensorflow``."""
    PORTABLE = "portable"
    """ExecuTorch's portable kernels, on the same program without a delegate."""
    MIL = "mil"
    """Our MIL executor, for Core ML on a Mac, where Core ML itself gives the first opinion."""

    @property
    def asked_about(self) -> Format:
        """What it can be asked about."""
        return _FORMATS[self]


_FORMATS: Final[Mapping[Witness, Format]] = {
    Witness.REFERENCE: Format.TFLITE,
    Witness.TENSORFLOW: Format.TFLITE,
    Witness.PORTABLE: Format.EXECUTORCH,
    Witness.MIL: Format.COREML,
}


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a file was made from, for witnesses that make it again.

    Attributes:
        network: Fused, with the plan's weights.
        plan: Of the file.
    """

    network: "nn.Module"
    plan: "QuantizationPlan"


def parse_witnesses(text: str) -> tuple[Witness, ...]:
    """Read a comma list of names.

    Raises:
        BadInputError: A name is unknown.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in {w.value for w in Witness}]
    if unknown or not names:
        message = f"unknown --executor {', '.join(unknown) or text!r}: choose from {', '.join(Witness)}"
        raise BadInputError(message)
    return tuple(dict.fromkeys(Witness(name) for name in names))


def require_something_to_ask(witnesses: Iterable[Witness], formats: Iterable[Format]) -> None:
    """Refuse witnesses that know none of the formats, with a BadInputError."""
    there = set(formats)
    for witness in witnesses:
        if witness.asked_about not in there:
            message = f"--executor {witness} is for {witness.asked_about} artifacts, and this run has none"
            raise BadInputError(message)


def second_opinions(
    witnesses: Iterable[Witness],
    entry: ArtifactEntry,
    path: Path,
    *,
    student: Student,
    source: Callable[[], Source],
    pictures: Maps,
    heatmaps: Maps,
) -> tuple[SecondOpinionEntry, ...]:
    """Run an artifact, or the program it was made from, with other kernels; witnesses of other formats stay silent.

    Args:
        witnesses: Whom to ask.
        entry: Gives format and precision.
        path: The artifact.
        student: Gives the contract and the decode rule.
        source: Gives what the file was made from, where a witness needs it.
        pictures: Normalised ``[N, 3, H, W]``; few are enough.
        heatmaps: What the first executor made of them, and of further ones.

    Raises:
        ConversionError: A witness cannot run it.
        EnvironmentLacksError: A package is absent.
    """
    found: list[SecondOpinionEntry] = []
    for witness in (each for each in witnesses if each.asked_about is entry.format):
        with TemporaryDirectory() as folder:
            executor = _opened(witness, path, source, student.contract.input_size, Path(folder))
            second = executor.heatmaps(pictures)
            first, precision = heatmaps[: len(second)], entry.precision
            found.append(_compared(witness, executor.name, first, second, precision=precision, student=student))
    return tuple(found)


def _compared(
    witness: Witness, name: str, first: Maps, second: Maps, *, precision: Precision, student: Student
) -> SecondOpinionEntry:
    apart = float(np.abs(second - first).max() / max(float(np.abs(first).max()), 1e-12))
    points = [decode(maps, contract=student.contract, rule=student.decode_rule)[..., :2] for maps in (first, second)]
    drift = float(np.percentile(np.linalg.norm(points[1] - points[0], axis=-1), 95))
    near = drift <= _CELLS * student.contract.heatmap_stride
    return SecondOpinionEntry(
        witness=witness.value,
        executed_by=name,
        pictures=len(first),
        apart=apart,
        drift_px_p95=drift,
        agrees=bool(near and (precision.is_static_integer or apart <= _FLOAT_APART)),
    )


def _opened(
    witness: Witness, path: Path, source: Callable[[], Source], input_size: tuple[int, int], folder: Path
) -> Executor:
    if witness is Witness.PORTABLE:
        from converters.executorch.portable import open_portable

        made = source()
        return open_portable(made.network, made.plan, input_size, folder / path.name)
    if witness is Witness.MIL:
        from converters.coreml.execute import MilExecutor
        from converters.coreml.mil.package import read_program

        return MilExecutor(read_program(path))
    from converters.tflite.execute import Kernels, open_executor

    kernels = Kernels.TENSORFLOW if witness is Witness.TENSORFLOW else Kernels.REFERENCE
    return open_executor(path, kernels=kernels)
