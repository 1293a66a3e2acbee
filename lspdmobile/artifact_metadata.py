"""The text entries that every artifact carries: how to use it, what it scored, what it was made of and by."""

import json
from typing import Any, Final

from lspdmobile import __version__
from lspdmobile.decode import HEATMAP_RULES
from lspdmobile.environment import versions
from lspdmobile.report.manifest import SkeletonEntry
from lspdmobile.student import Student

__all__ = ["metadata_of"]

_SHAPES_NO_ARTIFACT: Final = ("python", "tensorflow")
_DIGITS: Final = 12
_KEYPOINTS: Final = "For each joint x and y in input pixels and the peak's value, decoded from the heatmaps"


def metadata_of(student: Student, *, image_input: bool = False, decode: bool = False) -> dict[str, str]:
    """Give the entries; values of more than one word are JSON, and none depends on time or machine.

    Args:
        student: The float student.
        image_input: The artifact takes images and normalises them itself.
        decode: It gives keypoints too.

    ========================= ======================================================================================
    student, version, author  Name, first digits of the checkpoint's hash, who made it as far as its provenance says
    license                   Of the weights
    short_description         What the network does, in a sentence
    input_description         What the picture has to be
    heatmaps_description      What the output is, and the second one where there is one
    keypoints_description
    preprocess, skeleton      The contract and the joints, as ``manifest.json`` has them
    decode_rule               How heatmaps become keypoints
    metrics                   What the float student scored, by set; absent where nothing is known
    checkpoint_sha256         Of the float student's file; empty where it has none
    tool_versions             Of this tool and every package that shapes an artifact
    ========================= ======================================================================================
    """
    skeleton = SkeletonEntry.of(student.skeleton).model_dump(mode="json", exclude_unset=True)
    entries = {
        "student": student.name,
        "version": student.sha256[:_DIGITS],
        "author": str(student.provenance.get("author") or f"exported by lspdmobile {__version__}"),
        "license": student.licence,
        **_descriptions(student, image_input=image_input),
        "keypoints_description": _KEYPOINTS if decode else "",
        "preprocess": _json(student.contract.to_dict()),
        "skeleton": _json(skeleton),
        "decode_rule": student.decode_rule,
        "metrics": _json(dict(student.metrics)) if student.metrics else "",
        "tool_versions": _json(_tools()),
    }
    return {**{key: text for key, text in entries.items() if text}, "checkpoint_sha256": student.sha256}


def _descriptions(student: Student, *, image_input: bool) -> dict[str, str]:
    contract, skeleton = student.contract, student.skeleton
    rows, columns = contract.input_size
    colours, size = contract.colour_order.upper(), f"{columns}x{rows}"
    normal = f"each channel (value / 255 - {_plain(contract.mean)}) / {_plain(contract.std)}"
    if image_input:
        normal = "values 0 to 255, normalised inside"
    what = "heatmaps" if student.decode_rule in HEATMAP_RULES else "scores"
    cells = f", cells of {contract.heatmap_stride} pixels" if student.decode_rule in HEATMAP_RULES else ""
    return {
        "short_description": f"Human pose ({student.architecture}): {skeleton.count} joints of {skeleton.name} "
        f"from one picture of a person, {size}",
        "input_description": f"One person cut out and resized to {size}, {colours}, {normal}",
        "heatmaps_description": f"{what.capitalize()} of {skeleton.count} joints ({', '.join(skeleton.keypoints)})"
        f"{cells}; decode by {student.decode_rule}",
    }


def _tools() -> dict[str, str]:
    """Give the versions without those of a build, such as ``+cpu``: the same pins are the same bytes."""
    return {n: v.partition("+")[0] for n, v in versions().items() if n not in _SHAPES_NO_ARTIFACT}


def _plain(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _json(fields: Any) -> str:
    return json.dumps(fields, sort_keys=True)
