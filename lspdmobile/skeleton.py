"""Skeletons: keypoint names, mirror pairs, limbs and OKS sigmas, of the label sets this tool knows and of others.

Keypoint order is the data set's own. ``flip[k]`` is the index keypoint ``k`` takes in a mirrored picture. OKS sigmas
are COCO's where COCO defines the joint (pycocotools ``Params``); neck, head top, thorax and pelvis have none there, and
we use the shoulder's (0.079) and the hip's (0.107) as the nearest body parts.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from lspdmobile.errors import BadInputError

__all__ = ["COCO_17", "LSP_14", "MPII_16", "SKELETONS", "Skeleton", "skeleton_named"]


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """A named set of keypoints.

    Attributes:
        name: Identifier written into checkpoints and manifests.
        keypoints: Joint names in label order, length K.
        limbs: Pairs of joint indices that are drawn as bones.
        sigmas: OKS standard deviation of each joint, in units of the object scale; empty where there are none, and no
            OKS then.
        torso: Joint pair whose distance normalises PCK (left shoulder, right hip); None where there is no such pair.
        head: Joint pair whose distance normalises PCKh (neck or thorax, head top); None where the labels have no head
            segment.
        mirror: Pairs of joint indices that are each other's mirror image; None pairs ``left_x`` with ``right_x``.
    """

    name: str
    keypoints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...] = ()
    sigmas: tuple[float, ...] = ()
    torso: tuple[int, int] | None = None
    head: tuple[int, int] | None = None
    mirror: tuple[tuple[int, int], ...] | None = None

    @property
    def count(self) -> int:
        """Number of keypoints K."""
        return len(self.keypoints)

    @property
    def flip(self) -> tuple[int, ...]:
        """Index of each joint's mirror image; a joint on the midline maps to itself."""
        index = {name: i for i, name in enumerate(self.keypoints)}
        if self.mirror is None:
            return tuple(index.get(_mirrored(name), i) for i, name in enumerate(self.keypoints))
        images = {a: b for pair in self.mirror for a, b in (pair, pair[::-1])}
        return tuple(images.get(i, i) for i in range(self.count))

    def to_dict(self) -> dict[str, Any]:
        """Give the skeleton as JSON-able values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`, also after JSON has made lists of tuples.

        Raises:
            TypeError: A field is missing, unknown or of another kind.
        """
        values: dict[str, Any] = {k: _tuples(v) for k, v in fields.items()}
        return cls(**values)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _mirrored(name: str) -> str:
    if name.startswith("left_"):
        return "right_" + name.removeprefix("left_")
    if name.startswith("right_"):
        return "left_" + name.removeprefix("right_")
    return name


_SIGMA: Final[Mapping[str, float]] = {
    "nose": 0.026,
    "eye": 0.025,
    "ear": 0.035,
    "shoulder": 0.079,
    "elbow": 0.072,
    "wrist": 0.062,
    "hip": 0.107,
    "knee": 0.087,
    "ankle": 0.089,
    "neck": 0.079,
    "head_top": 0.079,
    "thorax": 0.079,
    "pelvis": 0.107,
}


def _skeleton(
    name: str, keypoints: tuple[str, ...], limbs: tuple[tuple[str, str], ...], head: tuple[str, str] | None
) -> Skeleton:
    index = {joint: i for i, joint in enumerate(keypoints)}
    return Skeleton(
        name=name,
        keypoints=keypoints,
        limbs=tuple((index[a], index[b]) for a, b in limbs),
        sigmas=tuple(_SIGMA[k.removeprefix("left_").removeprefix("right_")] for k in keypoints),
        torso=(index["left_shoulder"], index["right_hip"]),
        head=(index[head[0]], index[head[1]]) if head else None,
    )


_ARMS_AND_LEGS: Final = tuple(
    (f"{side}_{a}", f"{side}_{b}")
    for side in ("right", "left")
    for a, b in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"), ("shoulder", "hip"))
)

LSP_14: Final = _skeleton(
    "lsp-14",
    (
        "right_ankle",
        "right_knee",
        "right_hip",
        "left_hip",
        "left_knee",
        "left_ankle",
        "right_wrist",
        "right_elbow",
        "right_shoulder",
        "left_shoulder",
        "left_elbow",
        "left_wrist",
        "neck",
        "head_top",
    ),
    (
        *_ARMS_AND_LEGS,
        ("right_shoulder", "neck"),
        ("left_shoulder", "neck"),
        ("neck", "head_top"),
        ("right_hip", "left_hip"),
    ),
    ("neck", "head_top"),
)

MPII_16: Final = _skeleton(
    "mpii-16",
    (
        "right_ankle",
        "right_knee",
        "right_hip",
        "left_hip",
        "left_knee",
        "left_ankle",
        "pelvis",
        "thorax",
        "neck",
        "head_top",
        "right_wrist",
        "right_elbow",
        "right_shoulder",
        "left_shoulder",
        "left_elbow",
        "left_wrist",
    ),
    (
        *(limb for limb in _ARMS_AND_LEGS if not limb[1].endswith("hip")),
        ("pelvis", "right_hip"),
        ("pelvis", "left_hip"),
        ("pelvis", "thorax"),
        ("thorax", "right_shoulder"),
        ("thorax", "left_shoulder"),
        ("thorax", "neck"),
        ("neck", "head_top"),
    ),
    ("neck", "head_top"),
)

COCO_17: Final = _skeleton(
    "coco-17",
    (
        "nose",
        "left_eye",
        "right_eye",
        "left_ear",
        "right_ear",
        "left_shoulder",
        "right_shoulder",
        "left_elbow",
        "right_elbow",
        "left_wrist",
        "right_wrist",
        "left_hip",
        "right_hip",
        "left_knee",
        "right_knee",
        "left_ankle",
        "right_ankle",
    ),
    (
        *_ARMS_AND_LEGS,
        ("left_shoulder", "right_shoulder"),
        ("left_hip", "right_hip"),
        ("nose", "left_eye"),
        ("nose", "right_eye"),
        ("left_eye", "left_ear"),
        ("right_eye", "right_ear"),
    ),
    None,
)

SKELETONS: Final[Mapping[str, Skeleton]] = {s.name: s for s in (LSP_14, MPII_16, COCO_17)}


def skeleton_named(name: str) -> Skeleton:
    """Look a skeleton up by name.

    Raises:
        BadInputError: No skeleton has that name.
    """
    try:
        return SKELETONS[name]
    except KeyError:
        message = f"unknown skeleton {name!r}: choose from {', '.join(SKELETONS)}"
        raise BadInputError(message) from None
