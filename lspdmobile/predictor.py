"""Anything that turns a picture into keypoints: a float student or an artifact, behind one interface."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from converters import FORMATS
from lspdmobile.artifact import Converter
from lspdmobile.choices import Format
from lspdmobile.data.views import Views
from lspdmobile.decode import DECODE_RULES, DecodeRule, decode, decoded_flipped
from lspdmobile.errors import BadInputError
from lspdmobile.opening import open_student
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.report.manifest import SkeletonEntry
from lspdmobile.skeleton import SKELETONS, Skeleton, skeleton_named
from lspdmobile.student import Student

__all__ = ["Predictor", "converter_of", "open_predictor", "usage_of"]

Maps = NDArray[np.float32]
_BATCH: Final = 8


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A network ready to run.

    Attributes:
        name: What runs, for reports.
        heatmaps: Maps inputs ``[N, 3, H, W]`` to heatmaps ``[N, K, h, w]``.
        contract, skeleton, decode_rule: How to use it.
    """

    name: str
    heatmaps: Callable[[Maps], Maps]
    contract: PreprocessContract
    skeleton: Skeleton
    decode_rule: DecodeRule

    def keypoints(
        self, views: Views, *, flip_test: bool = False, progress: Callable[[int, int], None] | None = None
    ) -> Maps:
        """Find the keypoints ``[N, K, 3]`` of views, in pixels of their pictures.

        Args:
            views: Made by this predictor's contract.
            flip_test: Average with the mirrored picture's heatmaps.
            progress: Called with views done and their number.
        """
        found: list[Maps] = []
        for i in range(0, len(views), _BATCH):
            inputs = views.inputs(i, i + _BATCH)
            maps = self.heatmaps(inputs)
            if flip_test:
                mirrored = self.heatmaps(np.ascontiguousarray(inputs[..., ::-1]))
                found.append(
                    decoded_flipped(
                        maps, mirrored, flip=self.skeleton.flip, contract=self.contract, rule=self.decode_rule
                    )
                )
            else:
                found.append(decode(maps, contract=self.contract, rule=self.decode_rule))
            if progress:
                progress(min(i + _BATCH, len(views)), len(views))
        return views.to_pictures(np.concatenate(found))


def converter_of(path: Path) -> tuple[Format, Converter] | None:
    """Tell which format an artifact's name says, or None."""
    return next(((form, c) for form, c in FORMATS.items() if path.name.endswith(c.SUFFIX)), None)


def open_predictor(
    source: str,
    *,
    arch: str | None = None,
    arch_args: str | None = None,
    contract: Path | None = None,
    threads: int = 1,
) -> Predictor:
    """Open an artifact, or any student as :func:`lspdmobile.opening.open_student` does.

    Raises:
        BadInputError: It cannot be read, or the artifact does not say how pictures become its input.
    """
    path = Path(source)
    known = converter_of(path)
    if known is None:
        return _of_student(open_student(source, arch=arch, arch_args=arch_args, contract=contract))
    if not path.exists():
        message = f"{path}: no such artifact"
        raise BadInputError(message)
    return _of_artifact(path, known[1], threads)


def _of_student(student: Student) -> Predictor:
    import torch

    def heatmaps(inputs: Maps) -> Maps:
        with torch.inference_mode():
            found: Maps = student.network(torch.from_numpy(inputs)).numpy()
        return found

    return Predictor(
        name=f"{student.name} (PyTorch {torch.__version__})",
        heatmaps=heatmaps,
        contract=student.contract,
        skeleton=student.skeleton,
        decode_rule=student.decode_rule,
    )


def _of_artifact(path: Path, converter: Converter, threads: int) -> Predictor:
    contract, skeleton, decode_rule = usage_of(path, converter.inspect(path).metadata)
    executor = converter.open_executor(path, threads=threads)
    return Predictor(
        name=f"{path.name} ({executor.name})",
        heatmaps=executor.heatmaps,
        contract=contract,
        skeleton=skeleton,
        decode_rule=decode_rule,
    )


def usage_of(path: Path, metadata: Mapping[str, str]) -> tuple[PreprocessContract, Skeleton, DecodeRule]:
    """Read from an artifact's metadata how pictures become its input and its heatmaps keypoints.

    Raises:
        BadInputError: It does not say, or what it says cannot be used.
    """
    try:
        contract = PreprocessContract.from_dict(json.loads(metadata["preprocess"]))
        skeleton = _skeleton_of(json.loads(metadata["skeleton"]))
        rule = metadata["decode_rule"]
    except (BadInputError, KeyError, TypeError, ValueError) as error:
        message = f"{path}: does not carry its preprocess contract ({error}); only artifacts made by export can be run"
        raise BadInputError(message) from error
    if rule not in DECODE_RULES:
        message = f"{path}: names an unknown decode rule {rule!r}"
        raise BadInputError(message)
    return contract, skeleton, cast("DecodeRule", rule)


def _skeleton_of(fields: Mapping[str, Any]) -> Skeleton:
    """Take a skeleton of the tool's own by its name, any other one from its entry."""
    if "keypoints" not in fields or fields["name"] in SKELETONS:
        return skeleton_named(fields["name"])
    return SkeletonEntry.model_validate(fields).skeleton()
