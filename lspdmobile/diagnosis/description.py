"""What a file says of itself, beside what the manifest tells apps and what the float student is."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from lspdmobile.artifact import ArtifactFacts, TensorFacts
from lspdmobile.choices import Cause
from lspdmobile.diagnosis.naming import Diagnosis

__all__ = ["CHECKPOINT_KEY", "misdescribed", "misshapen"]

CHECKPOINT_KEY: Final = "checkpoint_sha256"
_CONTRACT_KEYS: Final = ("preprocess", "skeleton", "decode_rule")
_CAUSES: Final[Mapping[str, Cause]] = {
    "colour_order": Cause.COLOUR,
    "mean": Cause.NORMALISATION,
    "std": Cause.NORMALISATION,
    "input_size": Cause.GEOMETRY,
    "heatmap_stride": Cause.GEOMETRY,
    "crop_rule": Cause.GEOMETRY,
    "joint_box_scale": Cause.GEOMETRY,
    "person_box_scale": Cause.GEOMETRY,
    "resize": Cause.GEOMETRY,
    "keypoints": Cause.JOINTS,
}
_DIGITS: Final = 12


def misshapen(named: tuple[TensorFacts, ...], found: tuple[TensorFacts, ...]) -> Diagnosis | None:
    """Compare a file's inputs or outputs with those the manifest names; None where they agree."""
    if [_border(each) for each in found] == [_border(each) for each in named]:
        return None
    inside, wanted = (", ".join(f"{t.name} {t.dtype}{list(t.shape)}" for t in tensors) for tensors in (found, named))
    told = f"holds {inside} where the manifest tells apps of {wanted}"
    if len(found) == len(named) and any(_turned(*pair) for pair in zip(named, found, strict=True)):
        return Diagnosis(cause=Cause.LAYOUT, sentence=f"the layout is another one, NCHW and NHWC mixed up: {told}")
    return Diagnosis(cause=Cause.CONTRACT, sentence=told)


def _border(tensor: TensorFacts) -> tuple[str, tuple[int, ...], str]:
    return tensor.name, tensor.shape, tensor.dtype


def _turned(named: TensorFacts, found: TensorFacts) -> bool:
    return found.shape != named.shape and sorted(found.shape) == sorted(named.shape)


def misdescribed(facts: ArtifactFacts, student: Mapping[str, str], checkpoint: str) -> Diagnosis | None:
    """Compare a file's metadata with the student's.

    Args:
        facts: The file's.
        student: The entries that files of the student carry.
        checkpoint: sha256 of the checkpoint that the run was made from.

    Returns:
        The first entry that contradicts, in the words of what it does to a picture; None where none does.
    """
    wrong = [key for key in _CONTRACT_KEYS if facts.metadata.get(key) != student[key]]
    if wrong:
        which = f"its metadata has another {', '.join(wrong)} than the student"
        cause, told = next(_contradictions(facts.metadata, student, wrong), (Cause.CONTRACT, ""))
        return Diagnosis(cause=cause, sentence=f"{which}{told and f': {told}'}")
    made_from = facts.metadata.get(CHECKPOINT_KEY)
    if made_from and made_from != checkpoint:
        told = (
            f"it was made from another checkpoint ({made_from[:_DIGITS]}…) than this run ({checkpoint[:_DIGITS]}…): "
            "a stale file of an older training"
        )
        return Diagnosis(cause=Cause.CHECKPOINT, sentence=told)
    return None


def _contradictions(
    found: Mapping[str, str], wanted: Mapping[str, str], keys: list[str]
) -> Iterator[tuple[Cause, str]]:
    for key in keys:
        theirs, ours = _fields(found.get(key)), _fields(wanted[key])
        for name, value in ours.items():
            if theirs and theirs.get(name) != value and name in _CAUSES:
                yield (
                    _CAUSES[name],
                    f"{name} is {_short(theirs.get(name))} in the file and {_short(value)} in the student",
                )


def _fields(text: str | None) -> Mapping[str, Any]:
    """Read a JSON object; nothing where there is none."""
    try:
        found = json.loads(text or "")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _short(value: Any) -> str:
    return json.dumps(value)[:80]
