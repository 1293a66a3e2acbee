"""What a file says of itself, contradicted entry by entry."""

import json
from dataclasses import replace

import pytest

from lspdmobile.artifact import ArtifactFacts, TensorFacts
from lspdmobile.diagnosis import Cause, misdescribed, misshapen
from lspdmobile.preprocess import PreprocessContract

CONTRACT = PreprocessContract(input_size=(64, 64), heatmap_stride=8)
CHECKPOINT = "ab" * 32


def _entries(contract: PreprocessContract = CONTRACT, joints: tuple[str, ...] = ("a", "b")) -> dict[str, str]:
    return {
        "preprocess": json.dumps(contract.to_dict()),
        "skeleton": json.dumps({"keypoints": joints}),
        "decode_rule": "dark",
        "checkpoint_sha256": CHECKPOINT,
    }


def _facts(metadata: dict[str, str]) -> ArtifactFacts:
    return ArtifactFacts(inputs=(), outputs=(), weight_bytes_by_dtype={}, ops={}, metadata=metadata)


@pytest.mark.parametrize(
    ("metadata", "cause", "told"),
    [
        (_entries(replace(CONTRACT, colour_order="bgr")), Cause.COLOUR, 'colour_order is "bgr" in the file and "rgb"'),
        (_entries(replace(CONTRACT, mean=(0.0, 0.0, 0.0))), Cause.NORMALISATION, "mean is [0.0, 0.0, 0.0] in the file"),
        (_entries(replace(CONTRACT, joint_box_scale=1.5)), Cause.GEOMETRY, "joint_box_scale is 1.5"),
        (_entries(joints=("b", "a")), Cause.JOINTS, 'keypoints is ["b", "a"]'),
        ({**_entries(), "decode_rule": "quarter"}, Cause.CONTRACT, "another decode_rule"),
        ({}, Cause.CONTRACT, "another preprocess, skeleton, decode_rule"),
        ({**_entries(), "checkpoint_sha256": "cd" * 32}, Cause.CHECKPOINT, "a stale file of an older training"),
    ],
)
def test_an_entry_that_contradicts_is_told_by_what_it_does(metadata: dict[str, str], cause: Cause, told: str) -> None:
    found = misdescribed(_facts(metadata), _entries(), CHECKPOINT)
    assert found is not None
    assert found.cause is cause
    assert told in found.sentence


@pytest.mark.parametrize("checkpoint", [CHECKPOINT, ""])
def test_entries_that_agree_are_no_fault(checkpoint: str) -> None:
    assert misdescribed(_facts({**_entries(), "checkpoint_sha256": checkpoint}), _entries(), CHECKPOINT) is None


def test_another_order_of_axes_is_a_layout_and_anything_else_is_not() -> None:
    named = TensorFacts(name="x", shape=(1, 3, 64, 64), dtype="float32")
    assert misshapen((named,), (named,)) is None
    turned = misshapen((named,), (replace(named, shape=(1, 64, 64, 3)),))
    other = misshapen((named,), (replace(named, dtype="int8"),))
    assert (turned and turned.cause, other and other.cause) == (Cause.LAYOUT, Cause.CONTRACT)
