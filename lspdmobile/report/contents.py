"""What ``inspect`` says in words of a file: layout, grids, constants stored twice, float leftovers, targets."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from lspdmobile.artifact import ArtifactFacts
from lspdmobile.operators import Grid
from lspdmobile.report.delegations import delegation_line
from lspdmobile.report.inspected import DelegationEntry
from lspdmobile.report.tables import amount

__all__ = ["contents_lines"]

_SHOWN: Final = 3


def contents_lines(facts: ArtifactFacts) -> Iterator[str]:
    """Give one line for each thing that can be said; ``inspect --json`` has all of it, tensor by tensor."""
    if facts.layout:
        yield f"layout  {facts.layout}"
    macs = sum(operator.macs for operator in facts.operators)
    yield f"macs    {amount(macs)}"
    yield from _grid_lines(facts.grids)
    yield from _duplicate_lines(facts)
    yield from _leftover_lines(facts)
    found = [facts.delegation] if facts.delegation else []
    if not found:
        yield "delegate cannot be told from the file on this machine"
    for each in (*found, *facts.forecasts):
        yield f"delegate {delegation_line(DelegationEntry.of(each))}"


def _grid_lines(grids: tuple[Grid, ...]) -> Iterator[str]:
    """Summarise the grids by what they are of."""
    for constant, what in ((True, "constants"), (False, "activations")):
        some = [grid for grid in grids if grid.constant is constant]
        if not some:
            continue
        dtypes = ", ".join(f"{dtype} x{count}" for dtype, count in Counter(grid.dtype for grid in some).most_common())
        channels = sum(grid.axis is not None for grid in some)
        scales = [scale for grid in some for scale in grid.scales]
        shifted = sum(any(grid.zero_points) for grid in some)
        yield (
            f"grids   {what}: {dtypes}; {channels} by channel, {len(some) - channels} by tensor; "
            f"scales {min(scales):.3g} to {max(scales):.3g}; zero point not 0 in {shifted}"
        )


def _duplicate_lines(facts: ArtifactFacts) -> Iterator[str]:
    if not facts.duplicates:
        return
    wasted = sum(each.wasted_bytes for each in facts.duplicates)
    first = facts.duplicates[0]
    names = ", ".join(first.tensors[:_SHOWN]) + (", …" if len(first.tensors) > _SHOWN else "")
    yield (
        f"twice   {len(facts.duplicates)} constants are stored more than once, {wasted:,} bytes too many; "
        f"most: {names} ({first.dtype}, {first.bytes_each:,} bytes each)"
    )


def _leftover_lines(facts: ArtifactFacts) -> Iterator[str]:
    left = facts.leftovers
    if left is None:
        return
    kinds = Counter(each.kind for each in left.operators)
    named = ", ".join(f"{kind} x{count}" for kind, count in kinds.most_common()) or "none"
    between = sum(each.between for each in left.operators)
    macs = sum(each.macs for each in left.operators)
    yield (
        f"float   operators that compute in float: {named} ({between} between integers, {amount(macs)} MACs); "
        f"{left.conversions} conversions; {left.float_weight_bytes:,} bytes of float weights"
    )
