"""``plan.json``: every plan of a run once, the files made from it, and the weights where methods changed them.

A plan's network is the fused student. Quantization methods change its weights (never its operators); what they made is
beside ``plan.json`` as ``plan_N.safetensors``, so that a run can be compared with its plan without doing it again.
"""

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from lspdmobile.errors import BadInputError
from lspdmobile.preparing import Prepared
from lspdmobile.weights import write_weights
from quantization.plan import QuantizationPlan

__all__ = ["PLAN", "SavedPlan", "write_plans"]

PLAN: Final = "plan.json"
_SCHEMA_VERSION: Final = 2


def write_plans(folder: Path, sources: Iterable[tuple[str, Prepared]]) -> None:
    """Write ``plan.json`` and the changed weights.

    Args:
        folder: The run's.
        sources: Name of every artifact and what it was made from.
    """
    files: dict[int, list[str]] = {}
    plans: dict[int, Prepared] = {}
    for name, source in sources:
        files.setdefault(id(source.plan), []).append(name)
        plans[id(source.plan)] = source
    entries: list[dict[str, Any]] = []
    for number, (key, source) in enumerate(plans.items()):
        entry: dict[str, Any] = {"files": files[key], **source.plan.to_dict()}
        if source.records:
            entry["methods"] = [dict(record) for record in source.records]
        if source.changed is not None:
            entry["weights_file"] = f"plan_{number}.safetensors"
            write_weights(source.changed, folder / entry["weights_file"])
        entries.append(entry)
    text = json.dumps({"schema_version": _SCHEMA_VERSION, "plans": entries}, indent=2)
    (folder / PLAN).write_text(text + "\n", encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class SavedPlan:
    """A plan as a run folder holds it.

    Attributes:
        plan: The plan.
        weights_file: Name of the file with its network's weights; None where they are the fused student's.
    """

    plan: QuantizationPlan
    weights_file: str | None

    @classmethod
    def read(cls, path: Path, file: str) -> Self:
        """Read what an artifact was made from.

        Args:
            path: The ``plan.json``.
            file: Name of the artifact.

        Raises:
            BadInputError: It is not there, or damaged.
        """
        try:
            plans = json.loads(path.read_text(encoding="utf-8"))["plans"]
            fields: Mapping[str, Any] = next(each for each in plans if file in each["files"])
            weights = fields.get("weights_file")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
            message = f"{path}: has no plan for {file}; export again"
            raise BadInputError(message) from error
        return cls(plan=QuantizationPlan.from_dict(fields), weights_file=None if weights is None else str(weights))

    def network(self, fused: nn.Module, folder: Path) -> nn.Module:
        """Give the network the plan is of.

        Args:
            fused: The fused student; not touched.
            folder: Where the weights are.

        Raises:
            BadInputError: The weights cannot be read or are another network's.
        """
        if self.weights_file is None:
            return fused
        path = folder / self.weights_file
        changed = copy.deepcopy(fused)
        try:
            changed.load_state_dict(load_file(path))
        except (OSError, SafetensorError, RuntimeError) as error:
            message = f"{path}: does not hold the weights of the plan's network; export again"
            raise BadInputError(message) from error
        return changed
