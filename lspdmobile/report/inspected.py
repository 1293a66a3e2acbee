"""What ``report.json`` says of a file that was read back: how it is delegated, and how far it is from its plan."""

from typing import Self

from lspdmobile.artifact import Delegation
from lspdmobile.deviation import Deviation
from lspdmobile.report.files import Entry, Number

__all__ = ["DelegationEntry", "DeviationEntry"]


class DelegationEntry(Entry):
    """How many operators the runtime's fast path takes."""

    delegated: int
    total: int
    fraction: float
    not_delegated: tuple[str, ...]
    delegate: str = ""

    @classmethod
    def of(cls, delegation: Delegation) -> Self:
        """Enter what an artifact's inspection found."""
        return cls(
            delegated=delegation.delegated,
            total=delegation.total,
            fraction=delegation.fraction,
            not_delegated=delegation.not_delegated,
            delegate=delegation.delegate,
        )


class DeviationEntry(Entry):
    """What separates a quantized file from its plan; see :class:`lspdmobile.deviation.Deviation`."""

    pictures: int
    tensor: str
    steps: Number
    heatmaps: Number
    faults: tuple[str, ...] = ()

    @classmethod
    def of(cls, deviation: Deviation) -> Self:
        """Enter a comparison with the plan."""
        return cls(**{name: getattr(deviation, name) for name in cls.model_fields})
