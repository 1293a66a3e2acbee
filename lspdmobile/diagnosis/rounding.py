"""What float16 alone does to a network: every weight and every value on the way rounded to it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from lspdmobile.diagnosis.evidence import Evidence, Maps

__all__ = ["rounded_to_float16"]


class _Float16(TorchDispatchMode):
    """Rounds what every operator reads and gives; operators themselves compute in float32."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        read = tree_map_only(Tensor, _rounded, (tuple(args), dict(kwargs or {})))
        return tree_map_only(Tensor, _rounded, func(*read[0], **read[1]))


def rounded_to_float16(evidence: Evidence) -> Maps:
    """Give the float student's heatmaps ``[n, K, h, w]`` as float16 leaves them; infinite where it overflows."""
    with _Float16():  # type: ignore[no-untyped-call]
        return evidence.run(evidence.inputs)


def _rounded(values: Tensor) -> Tensor:
    return values.half().float() if values.dtype == torch.float32 else values
