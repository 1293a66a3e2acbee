"""The closed lists: formats, backends, precisions, layouts, targets with their aliases; verdicts, causes of failures.

Precision names decode as: ``fp32`` and ``fp16`` say weights and activations alike; ``wX`` says X-bit integer weights
and float activations (``w4`` has 8 bits in depthwise and transposed convolutions); ``wXaY`` says X-bit integer weights
and Y-bit integer activations (static, calibrated); ``paletteX`` says that weights are X-bit indices into a table of
floats, and activations float.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from enum import StrEnum
from typing import Final, TypeVar

from lspdmobile.errors import BadInputError

__all__ = [
    "Backend",
    "Cause",
    "Estimator",
    "Format",
    "Layout",
    "Precision",
    "Verdict",
    "parse_formats",
    "parse_precisions",
]


class Format(StrEnum):
    """An artifact format."""

    COREML = "coreml"
    TFLITE = "tflite"
    EXECUTORCH = "executorch"


class Backend(StrEnum):
    """What an ExecuTorch program is delegated to; the other formats have no choice."""

    XNNPACK = "xnnpack"
    COREML = "coreml"


class Precision(StrEnum):
    """How weights and activations are stored and computed."""

    FP32 = "fp32"
    FP16 = "fp16"
    W8 = "w8"
    W4 = "w4"
    W8A8 = "w8a8"
    W8A16 = "w8a16"
    PALETTE6 = "palette6"
    PALETTE4 = "palette4"

    @property
    def file_suffix(self) -> str:
        """What the artifact's file name ends with, as users of the formats expect."""
        return {Precision.FP32: "float32", Precision.FP16: "float16"}.get(self, self.value)

    @property
    def is_static_integer(self) -> bool:
        """Whether activations are integers, so that calibration is needed."""
        return self in (Precision.W8A8, Precision.W8A16)

    @property
    def palette_bits(self) -> int | None:
        """Bits of an index into a layer's table of weights; None where weights are no palette."""
        return {Precision.PALETTE6: 6, Precision.PALETTE4: 4}.get(self)

    @property
    def may_compute_in_float16(self) -> bool:
        """Whether activations are float and a runtime that has float16 computes in it."""
        return not self.is_static_integer and self is not Precision.FP32


class Estimator(StrEnum):
    """How the range of an integer activation is made of the values seen in calibration."""

    MIN_MAX = "min-max"
    MOVING_AVERAGE = "moving-average"
    PERCENTILE = "percentile"
    MSE = "mse"
    ENTROPY = "entropy"


class Layout(StrEnum):
    """Axis order of the artifact's input and output."""

    NCHW = "nchw"
    NHWC = "nhwc"


class Verdict(StrEnum):
    """What the gate said of one artifact or of a whole run."""

    PASS = "pass"
    FAIL = "fail"
    UNDECIDED = "not enough pictures"
    NOT_JUDGED = "not judged"

    @classmethod
    def overall(cls, verdicts: Iterable["Verdict"]) -> "Verdict":
        """Give a run's verdict: pass where every artifact passed, undecided where the others are, fail otherwise."""
        found = set(verdicts)
        if found <= {cls.PASS}:
            return cls.PASS
        return cls.UNDECIDED if found <= {cls.PASS, cls.UNDECIDED} else cls.FAIL


class Cause(StrEnum):
    """What may be wrong with an artifact that failed, as ``report.json`` spells it."""

    COLOUR = "colour order"
    NORMALISATION = "normalisation"
    SHIFT = "shift"
    GEOMETRY = "letterbox or aspect"
    MIRROR = "mirror"
    JOINTS = "joint order"
    LAYOUT = "layout"
    SCALE = "scale"
    WEIGHT = "one weight"
    LAYER = "one layer"
    CHECKPOINT = "another checkpoint"
    CONTRACT = "another contract"
    QUANTIZATION = "quantization itself"
    FLOAT16 = "float16 itself"
    UNKNOWN = "no single cause"

    @property
    def is_mistake(self) -> bool:
        """Whether something was done wrongly that can be put right, not a loss that the number type brings."""
        return self not in (Cause.QUANTIZATION, Cause.FLOAT16, Cause.UNKNOWN)


_FORMAT_ALIASES: Final[dict[str, Format]] = {
    "mlpackage": Format.COREML,
    "ios": Format.COREML,
    "litert": Format.TFLITE,
    "pte": Format.EXECUTORCH,
}
_PRECISION_ALIASES: Final[dict[str, Precision]] = {
    "float32": Precision.FP32,
    "float16": Precision.FP16,
    "int8": Precision.W8A8,
}


def parse_formats(text: str) -> tuple[Format, ...]:
    """Read a comma list of formats; ``all`` means every one.

    Raises:
        BadInputError: A name is unknown; the message suggests the nearest.
    """
    return _parse(text, {f.value: f for f in Format}, _FORMAT_ALIASES, what="format", everything=tuple(Format))


def parse_precisions(text: str) -> tuple[Precision, ...]:
    """Read a comma list of precisions.

    Raises:
        BadInputError: A name is unknown; the message suggests the nearest.
    """
    return _parse(text, {p.value: p for p in Precision}, _PRECISION_ALIASES, what="precision", everything=())


T = TypeVar("T")


def _parse(
    text: str, names: dict[str, T], aliases: dict[str, T], *, what: str, everything: Sequence[T]
) -> tuple[T, ...]:
    known = {**names, **aliases}
    chosen: list[T] = []
    for raw in text.split(","):
        word = raw.strip().lower()
        if word == "all" and everything:
            chosen.extend(everything)
        elif word in known:
            chosen.append(known[word])
        else:
            near = get_close_matches(word, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(names)}"
            message = f"unknown {what} {raw.strip()!r}: {hint}"
            raise BadInputError(message)
    return tuple(dict.fromkeys(chosen))
