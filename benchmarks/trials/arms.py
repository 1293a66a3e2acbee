"""Arms: training configurations that differ in one thing, read from a TOML file.

``[base]`` holds a training configuration, ``[families.NAME]`` what a network adds to it, and ``[arms.NAME]`` an arm's
own ``fields``, its ``family``, and the arm it is compared ``against``. Tables are merged key by key.
"""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from lspdmobile.errors import BadInputError
from lspdmobile.train.config import TrainConfig
from lspdmobile.train.recipes import network_config

__all__ = ["Arm", "read_arms"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _ArmFields(_Strict):
    family: str
    against: str = ""
    core: bool = True
    fields: dict[str, Any] = {}


class _File(_Strict):
    base: dict[str, Any]
    families: dict[str, dict[str, Any]]
    arms: dict[str, _ArmFields]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train a network.

    Attributes:
        name: As it is called in tables.
        config: The training, seed 0.
        against: Name of the arm it is compared with; empty for one that others are compared with.
        core: Whether it is run when no arm is asked for by name.
    """

    name: str
    config: TrainConfig = field(repr=False)
    against: str
    core: bool

    def seeded(self, seed: int) -> TrainConfig:
        """Give the configuration of one run."""
        return self.config.model_copy(update={"seed": seed})

    def run_name(self, seed: int) -> str:
        """Name a run; another configuration has another name, so that results are never mixed."""
        digest = hashlib.sha256(self.seeded(seed).model_dump_json().encode()).hexdigest()[:8]
        return f"{self.name}-{seed}-{digest}"


def read_arms(path: Path, changes: Mapping[str, Any] | None = None) -> dict[str, Arm]:
    """Read and check every arm.

    Args:
        path: The TOML file.
        changes: Merged over ``[base]``; how a shorter schedule is tried.

    Raises:
        BadInputError: The file or an arm's configuration is wrong; all faulty arms are listed.
    """
    try:
        file = _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        message = f"{path}: not a file of arms ({error})"
        raise BadInputError(message) from error
    base = _merged(file.base, changes or {})
    arms: dict[str, Arm] = {}
    faults: list[str] = []
    for name, given in file.arms.items():
        if given.family not in file.families or given.against not in ("", *file.arms):
            faults.append(f"{name}: no such family or arm")
            continue
        try:
            config = TrainConfig.model_validate(_merged(_merged(base, file.families[given.family]), given.fields))
            network_config(config)
        except (ValidationError, BadInputError) as error:
            faults.append(f"{name}: {error}")
            continue
        arms[name] = Arm(name=name, config=config, against=given.against, core=given.core)
    if faults:
        message = f"{path}: {'; '.join(faults)}"
        raise BadInputError(message)
    return arms


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one table over another; tables in both are merged, all else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(under, Mapping)
        merged[key] = _merged(under, value) if both and isinstance(under, Mapping) else value
    return merged
