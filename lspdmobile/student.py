"""Students: the network that ships, with its preprocess contract, skeleton and training provenance.

Our checkpoints are ``.safetensors`` files whose metadata holds one JSON text under the key ``lspdmobile``. A raw
``.pth`` state dict is read with ``weights_only=True``: pickled code is never executed.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.export import ExportedProgram

from lspdmobile.artifact import sha256_of
from lspdmobile.decode import DECODE_RULES, DecodeRule
from lspdmobile.errors import BadInputError
from lspdmobile.networks.architectures import architecture_named, architecture_of, deployed_network
from lspdmobile.networks.config import NetworkConfig
from lspdmobile.networks.presets import PRESETS, preset
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.skeleton import SKELETONS, Skeleton, skeleton_named
from lspdmobile.weights import first_line, state_dict_of, unpickled, with_weights, write_weights

__all__ = [
    "NAME",
    "Student",
    "bundled_students",
    "load_checkpoint",
    "load_student",
    "resized",
    "save_student",
    "student_from_preset",
]

_METADATA_KEY: Final = "lspdmobile"
_SCHEMA_VERSION: Final = 1
NAME: Final = re.compile(r"(?!\.\.?$)[^/\\:\x00-\x1f]+")
"""What the name of a student matches: files begin with it."""


@dataclass(frozen=True, kw_only=True)
class Student:
    """A trained network and everything needed to use it.

    Attributes:
        name: Short name; the stem of every file made from it.
        network: In eval mode; maps ``[N, 3, H, W]`` to heatmaps ``[N, K, h, w]``, or what else the decode rule reads.
        config: What shapes the network; None for one that was not made here.
        contract: How pictures become inputs.
        skeleton: Meaning of the K heatmaps.
        decode_rule: How heatmaps become keypoints.
        program: The exported program that ``network`` was made of, for one picture; None where it is a module.
        made_by: What made a network that was not made here.
        licence: Of the weights, an SPDX name where there is one.
        provenance: How it was trained, in JSON-able values.
        metrics: What it scored, by set and metric, in JSON-able values.
        sha256: Hash of the checkpoint file; empty for a network that has none.
    """

    name: str
    network: nn.Module
    config: NetworkConfig | None
    contract: PreprocessContract
    skeleton: Skeleton
    decode_rule: DecodeRule = "dark"
    program: ExportedProgram | None = field(default=None, repr=False)
    made_by: str = ""
    licence: str = "Apache-2.0"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""

    @property
    def architecture(self) -> str:
        """Name of the architecture, or what made a network that was not made here."""
        return architecture_of(self.config) if self.config else self.made_by


def bundled_students() -> dict[str, Path]:
    """Give the checkpoints shipped with the package, by name."""
    folder = Path(str(resources.files("lspdmobile") / "students"))
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def load_student(source: str, *, arch: str | None = None) -> Student:
    """Load a bundled student, one of our ``.safetensors`` files, or a ``.pth`` state dict of a preset.

    Args:
        source: Bundled name or path.
        arch: Preset that shapes a ``.pth`` file's network.

    Raises:
        BadInputError: Nothing is there, the file is damaged or holds code, its weights are not finite, or they do not
            fit the architecture (every difference is listed).
    """
    bundled = bundled_students()
    if source in bundled:
        return _from_safetensors(bundled[source])
    path = Path(source)
    if not path.is_file():
        known = ", ".join(bundled) or "none"
        message = f"{source}: neither a bundled student ({known}) nor a file"
        raise BadInputError(message)
    if path.suffix == ".safetensors":
        return _from_safetensors(path)
    if path.suffix in (".pth", ".pt"):
        return _from_state_dict(path, arch)
    message = f"{path}: a student is a .safetensors file of ours or a .pth state dict, not {path.suffix or 'this'}"
    raise BadInputError(message)


def load_checkpoint(path: Path, *, device: str) -> dict[str, Any]:
    """Read a training checkpoint; tensors and plain values only, pickled code is never executed.

    Raises:
        BadInputError: It is missing, damaged or holds code.
    """
    try:
        saved = unpickled(path, device)
    except Exception as error:  # torch raises many kinds; every one means the file cannot be used
        message = f"{path}: not a readable training checkpoint ({first_line(error)})"
        raise BadInputError(message) from error
    if not isinstance(saved, dict):
        message = f"{path}: not a training checkpoint"
        raise BadInputError(message)
    return saved


def student_from_preset(name: str) -> Student:
    """Build an untrained student of a preset, for counting and tests."""
    config = preset(name)
    return Student(
        name=name,
        network=deployed_network(config),
        config=config,
        contract=PreprocessContract(input_size=config.input_size, heatmap_stride=config.heatmap_stride),
        skeleton=next(s for s in SKELETONS.values() if s.count == config.keypoints),
    )


def save_student(student: Student, path: Path) -> None:
    """Write a student of ours as a ``.safetensors`` checkpoint, replacing the file at once."""
    assert student.config is not None, f"{student.made_by} has no configuration to write"
    header = {
        "schema_version": _SCHEMA_VERSION,
        "name": student.name,
        "architecture": architecture_of(student.config),
        "config": student.config.to_dict(),
        "contract": student.contract.to_dict(),
        "skeleton": student.skeleton.name,
        "decode_rule": student.decode_rule,
        "provenance": dict(student.provenance),
        "metrics": dict(student.metrics),
    }
    write_weights(student.network, path, metadata={_METADATA_KEY: json.dumps(header, sort_keys=True)})


def _from_safetensors(path: Path) -> Student:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        message = f"{path}: not a readable .safetensors file ({error}); it may be truncated, copy it again"
        raise BadInputError(message) from error
    if _METADATA_KEY not in metadata:
        message = f"{path}: has no {_METADATA_KEY!r} metadata, so its architecture is unknown"
        raise BadInputError(message)
    return _from_header(path, metadata[_METADATA_KEY], tensors)


def _from_header(path: Path, text: str, tensors: dict[str, Tensor]) -> Student:
    try:
        header = json.loads(text)
        _check_header(header)
        config = architecture_named(header["architecture"]).config.from_dict(header["config"])
        student = Student(
            name=header["name"],
            network=deployed_network(config),
            config=config,
            contract=PreprocessContract.from_dict(header["contract"]),
            skeleton=skeleton_named(header["skeleton"]),
            decode_rule=header["decode_rule"],
            provenance=dict(header["provenance"]),
            metrics=dict(header["metrics"]),
            sha256=sha256_of(path),
        )
        _check_agreement(student)
    except Exception as error:  # a field of a wrong kind can fail anywhere while the network is built
        fault = error if isinstance(error, BadInputError) else f"{type(error).__name__}: {first_line(error)}"
        message = f"{path}: its metadata cannot be used ({fault})"
        raise BadInputError(message) from error
    with_weights(student.network, tensors, path)
    return student


def _check_header(header: Mapping[str, Any]) -> None:
    schema, name, rule = (header[k] for k in ("schema_version", "name", "decode_rule"))
    if schema != _SCHEMA_VERSION:
        message = f"schema {schema!r}; this version reads {_SCHEMA_VERSION}"
        raise BadInputError(message)
    if rule not in DECODE_RULES:
        message = f"unknown decode rule {rule!r}: choose from {', '.join(DECODE_RULES)}"
        raise BadInputError(message)
    if not NAME.fullmatch(name):
        message = f"name {name!r} cannot begin the names of files"
        raise BadInputError(message)


def _check_agreement(student: Student) -> None:
    config, contract = student.config, student.contract
    assert config is not None
    if config.keypoints != student.skeleton.count:
        message = f"{config.keypoints} heatmaps do not fit {student.skeleton.name}'s {student.skeleton.count} joints"
        raise BadInputError(message)
    if (config.input_size, config.heatmap_stride) != (contract.input_size, contract.heatmap_stride):
        message = f"the network takes {config.input_size}, its preprocess contract gives {contract.input_size}"
        raise BadInputError(message)


def _from_state_dict(path: Path, arch: str | None) -> Student:
    if arch is None:
        message = f"{path}: a state dict does not say its architecture; add --arch ({', '.join(PRESETS)})"
        raise BadInputError(message)
    base = student_from_preset(arch)
    with_weights(base.network, state_dict_of(path), path)
    return replace(base, name=path.stem, sha256=sha256_of(path))


def resized(student: Student, input_size: tuple[int, int]) -> Student:
    """Give the same weights at another input size; the network is fully convolutional.

    Raises:
        BadInputError: A side is not a positive multiple of what the network needs, or the network is none of ours.
    """
    if student.config is None:
        message = f"--input-size: {student.name} was not made here; its contract file or the program itself says it"
        raise BadInputError(message)
    step = student.config.size_step
    if any(side <= 0 or side % step for side in input_size):
        message = f"--input-size {input_size[0]} {input_size[1]}: both sides must be multiples of {step}"
        raise BadInputError(message)
    return replace(
        student,
        config=replace(student.config, input_size=input_size),
        contract=replace(student.contract, input_size=input_size),
    )
