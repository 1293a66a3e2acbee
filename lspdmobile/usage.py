"""The contract file: how a network that was not made here is used, as a TOML file (docs/bring_your_own.md).

A network of ours carries its preprocess contract, skeleton and decode rule. Of any other one they have to be told: what
its pictures are normalised by, what it gives, and which joints these are.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lspdmobile.decode import DecodeRule
from lspdmobile.errors import BadInputError
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.skeleton import SKELETONS, Skeleton, skeleton_named
from lspdmobile.toml_file import read_toml

__all__ = ["Head", "Usage", "read_usage"]

Head = Literal["heatmap", "simcc", "regression"]

_TORSO: Final = ("left_shoulder", "right_hip")
_HEADS: Final = (("neck", "head_top"), ("thorax", "head_top"))

Positive = Annotated[int, Field(gt=0)]
Channels = tuple[float, float, float]
Pair = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a contract file says.

    Attributes:
        source: Where it was read, for messages.
        skeleton: The joints, in the order the network gives them.
        mean, std: Per channel, on a 0..1 scale.
        colour_order: Of the network's input.
        head: What the network gives.
        decode_rule: How that becomes keypoints.
        input_size: Rows and columns; None where the network itself says it.
        heatmap_stride: Input pixels per cell; None to go by the network's result.
        outputs: Which of several results, by place or name; empty where there is no choice.
        name: Of the student; empty for the file's own.
        licence: Of the weights.
        joint_box_scale, person_box_scale: How much larger than the box a crop is; see the preprocess contract.
    """

    source: Path
    skeleton: Skeleton
    mean: Channels
    std: Channels
    colour_order: Literal["rgb", "bgr"]
    head: Head
    decode_rule: DecodeRule
    input_size: tuple[int, int] | None
    heatmap_stride: int | None
    outputs: tuple[int | str, ...]
    name: str
    licence: str
    joint_box_scale: float
    person_box_scale: float


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _SkeletonTable(_Strict):
    name: str
    keypoints: Annotated[list[str], Field(min_length=1)]
    limbs: list[Pair] = []
    mirror: list[Pair] | None = None
    sigmas: list[Annotated[float, Field(gt=0)]] = []
    torso: Pair | None = None
    head: Pair | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name in SKELETONS:
            message = f"{self.name!r} is a skeleton of the tool's own: write skeleton = {self.name!r}, or another name"
            raise ValueError(message)
        if len(set(self.keypoints)) < len(self.keypoints):
            message = "two keypoints have one name"
            raise ValueError(message)
        pairs = [*self.limbs, *(self.mirror or []), *(p for p in (self.torso, self.head) if p is not None)]
        unknown = sorted({joint for pair in pairs for joint in pair} - set(self.keypoints))
        if unknown:
            message = f"no such keypoint: {', '.join(unknown)}"
            raise ValueError(message)
        if self.sigmas and len(self.sigmas) != len(self.keypoints):
            message = f"{len(self.sigmas)} sigmas for {len(self.keypoints)} keypoints"
            raise ValueError(message)
        return self

    def skeleton(self) -> Skeleton:
        known = set(self.keypoints)
        heads = (pair for pair in _HEADS if known.issuperset(pair))
        torso = self.torso or (_TORSO if known.issuperset(_TORSO) else None)
        head = self.head or next(heads, None)
        return Skeleton(
            name=self.name,
            keypoints=tuple(self.keypoints),
            limbs=tuple(map(self._places, self.limbs)),
            sigmas=tuple(self.sigmas),
            torso=self._places(torso) if torso else None,
            head=self._places(head) if head else None,
            mirror=None if self.mirror is None else tuple(map(self._places, self.mirror)),
        )

    def _places(self, pair: Pair) -> tuple[int, int]:
        return self.keypoints.index(pair[0]), self.keypoints.index(pair[1])


class _File(_Strict):
    skeleton: str | _SkeletonTable
    mean: Channels
    std: Channels
    colour_order: Literal["rgb", "bgr"] = "rgb"
    input_size: tuple[Positive, Positive] | None = None
    joint_box_scale: float = PreprocessContract.joint_box_scale
    person_box_scale: float = PreprocessContract.person_box_scale
    head: Head = "heatmap"
    heatmap_stride: Positive | None = None
    decode_rule: Literal["dark", "quarter", "soft-argmax"] | None = None
    unit: Literal["fraction", "pixel"] | None = None
    outputs: list[int | str] = []
    name: str = ""
    license: str = "not stated"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if max(map(abs, self.mean)) > 1:
            message = f"mean {list(self.mean)} is on a scale of 0 to 255: divide mean and std by 255"
            raise ValueError(message)
        if min(self.std) <= 0:
            message = f"std {list(self.std)} is not three positive numbers"
            raise ValueError(message)
        if self.head != "heatmap" and (self.decode_rule or self.heatmap_stride):
            message = f"decode_rule and heatmap_stride are of heatmaps, the head is {self.head!r}"
            raise ValueError(message)
        if self.unit and self.head != "regression":
            message = f"unit says what a regression head gives, the head is {self.head!r}"
            raise ValueError(message)
        return self

    def rule(self) -> DecodeRule:
        if self.head == "regression":
            return "regression-pixels" if self.unit == "pixel" else "regression"
        return "simcc" if self.head == "simcc" else self.decode_rule or "dark"


def read_usage(path: Path) -> Usage:
    """Read a contract file.

    Raises:
        BadInputError: It is missing, not TOML or has wrong fields (all are listed).
    """
    file = read_toml(path, _File, what="contract file")
    return Usage(
        source=path,
        skeleton=_named(file.skeleton, path) if isinstance(file.skeleton, str) else file.skeleton.skeleton(),
        mean=file.mean,
        std=file.std,
        colour_order=file.colour_order,
        head=file.head,
        decode_rule=file.rule(),
        input_size=file.input_size,
        heatmap_stride=file.heatmap_stride,
        outputs=tuple(file.outputs),
        name=file.name,
        licence=file.license,
        joint_box_scale=file.joint_box_scale,
        person_box_scale=file.person_box_scale,
    )


def _named(name: str, path: Path) -> Skeleton:
    try:
        return skeleton_named(name)
    except BadInputError as error:
        message = f"{path}: {error}, or write a [skeleton] table"
        raise BadInputError(message) from error
