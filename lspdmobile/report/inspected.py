"""What ``report.json`` says of a file that was read back: how it is delegated, and how far it is from its plan."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from lspdmobile.artifact import ArtifactFacts
from lspdmobile.choices import Cause
from lspdmobile.delegation import Basis, Delegation, Left
from lspdmobile.deviation import Deviation
from lspdmobile.report.files import Entry, Number

if TYPE_CHECKING:
    from lspdmobile.diagnosis import Diagnosis

__all__ = [
    "DelegationEntry",
    "DeviationEntry",
    "DiagnosisEntry",
    "LeftEntry",
    "SecondOpinionEntry",
    "delegation_fields",
]


class LeftEntry(Entry):
    """An operator that a target leaves, or that there is a doubt about, and why."""

    operator: str
    kind: str
    macs: int
    rule: str
    why: str

    @classmethod
    def of(cls, left: Left) -> Self:
        """Enter one operator."""
        return cls(**{name: getattr(left, name) for name in cls.model_fields})


class DelegationEntry(Entry):
    """How many operators the runtime's fast path takes; ``left`` are those it does not, one by one.

    ``basis`` is ``partition`` where a runtime divided the file, and ``rules`` where published rules foretell it.
    Operators in ``doubtful`` are counted as delegated, although a report says otherwise.
    """

    delegated: int
    total: int
    fraction: float
    not_delegated: tuple[str, ...]
    delegate: str = ""
    target: str = ""
    basis: Basis = Basis.PARTITION
    delegated_macs: int = 0
    total_macs: int = 0
    macs_fraction: float = 1.0
    left: tuple[LeftEntry, ...] = ()
    doubtful: tuple[LeftEntry, ...] = ()

    @classmethod
    def of(cls, delegation: Delegation) -> Self:
        """Enter what an artifact's inspection found."""
        return cls(
            delegated=delegation.delegated,
            total=delegation.total,
            fraction=delegation.fraction,
            not_delegated=delegation.not_delegated,
            delegate=delegation.delegate,
            target=delegation.target,
            basis=delegation.basis,
            delegated_macs=delegation.delegated_macs,
            total_macs=delegation.total_macs,
            macs_fraction=delegation.macs_fraction,
            left=tuple(map(LeftEntry.of, delegation.left)),
            doubtful=tuple(map(LeftEntry.of, delegation.doubtful)),
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


def delegation_fields(facts: ArtifactFacts) -> Mapping[str, Any]:
    """Give the fields of an artifact's entry that say which operators its targets take."""
    return {
        "delegation": DelegationEntry.of(facts.delegation) if facts.delegation else None,
        "forecasts": tuple(map(DelegationEntry.of, facts.forecasts)),
        "operators": {operator.name: operator.macs for operator in facts.operators},
    }


class DiagnosisEntry(Entry):
    """The likeliest cause of a failure; see :class:`lspdmobile.diagnosis.Diagnosis`."""

    cause: Cause
    sentence: str
    explained: Number = None

    @classmethod
    def of(cls, diagnosis: "Diagnosis") -> Self:
        """Enter a diagnosis."""
        return cls(cause=diagnosis.cause, sentence=diagnosis.sentence, explained=diagnosis.explained)


class SecondOpinionEntry(Entry):
    """How another executor compares with the one that judged an artifact.

    ``apart`` is the largest difference of heatmaps over their largest value, ``drift_px_p95`` the distance that 95 % of
    the joints stay within, in input pixels.
    """

    witness: str
    executed_by: str
    pictures: int
    apart: float
    drift_px_p95: float
    agrees: bool

    @property
    def sentence(self) -> str:
        """Say it."""
        verb = "agrees" if self.agrees else "disagrees"
        found = f"95% of the joints within {self.drift_px_p95:.2f} px, heatmaps within {self.apart:.1e} of the largest"
        blame = "" if self.agrees else "; executors differ, so the file alone is not to blame"
        return f"{self.executed_by} {verb} on {self.pictures} pictures ({found}){blame}"
