"""What ``report.json`` says of each layer in which a file does not honour its plan."""

from collections.abc import Iterable
from typing import Self

from lspdmobile.report.files import Entry
from lspdmobile.shortfall import Shortfall

__all__ = ["ShortfallEntry", "shortfall_entries"]


class ShortfallEntry(Entry):
    """One layer; see :class:`lspdmobile.shortfall.Shortfall`."""

    layer: str
    wanted: str
    found: str
    reason: str

    @classmethod
    def of(cls, shortfall: Shortfall) -> Self:
        """Enter what was read back."""
        return cls(**vars(shortfall))


def shortfall_entries(shortfalls: Iterable[Shortfall]) -> tuple[ShortfallEntry, ...]:
    """Enter all that was read back from one file."""
    return tuple(map(ShortfallEntry.of, shortfalls))
