"""Entries of ``report.json`` for the drop of a task metric: on all pictures, and by condition."""

from typing import Self

from pydantic import Field

from lspdmobile.parity.conditions import ConditionDrop
from lspdmobile.parity.drop import MetricDrop
from lspdmobile.report.files import Entry

__all__ = ["ConditionEntry", "MetricEntry"]


class MetricEntry(Entry):
    """A task metric of float student and artifact (fractions), its drop and 95 % interval (points).

    ``moved`` of ``joints`` are another matter to the metric now (:class:`lspdmobile.parity.drop.MetricDrop`).
    """

    name: str
    float_value: float = Field(alias="float")
    artifact: float
    drop: float
    ci95: tuple[float, float]
    pictures: int | None = None
    joints: int | None = None
    moved: int | None = None

    @classmethod
    def of(cls, drop: MetricDrop) -> Self:
        """Enter a measured drop."""
        fields = {"float": drop.float_value, "artifact": drop.artifact_value, "drop": drop.drop, "ci95": drop.ci95}
        counts = {"pictures": drop.pictures, "joints": drop.joints, "moved": drop.moved}
        return cls.model_validate({"name": drop.name, **fields, **counts})


class ConditionEntry(Entry):
    """The drop on the joints of one group; see :class:`lspdmobile.parity.conditions.ConditionDrop`."""

    condition: str
    group: str
    persons: int
    beyond_chance: bool
    metric: MetricEntry

    @classmethod
    def of(cls, found: ConditionDrop) -> Self:
        """Enter a measured drop."""
        return cls(
            condition=found.condition,
            group=found.group,
            persons=found.persons,
            beyond_chance=found.beyond_chance,
            metric=MetricEntry.of(found.drop),
        )
