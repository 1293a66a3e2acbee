"""What ``inspect`` says of a file in words; ``inspect --json`` has all of it, tensor by tensor."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Final

from lspdmobile.artifact import ArtifactFacts, TensorFacts
from lspdmobile.encodings import Encoding
from lspdmobile.operators import Grid
from lspdmobile.report.delegations import delegation_line
from lspdmobile.report.inspected import DelegationEntry
from lspdmobile.report.tables import amount, percent

__all__ = ["contents_lines"]

_SHOWN: Final = 3
_HEAVIEST: Final = 5
_PARTS: Final = 12
_LONGEST_NAME: Final = 60
_HEAD: Final = 20
_SHARE: Final = re.compile(r"(\d+)%")


def contents_lines(facts: ArtifactFacts) -> Iterator[str]:
    """Give the lines that people read: borders, parts, operators, weights, grids, waste, targets and metadata."""
    for kind, tensors in (("input", facts.inputs), ("output", facts.outputs)):
        for tensor in tensors:
            said = f": {tensor.description}" if tensor.description else ""
            yield f"{kind:<8}{_tensor(tensor)}{said}"
    yield from _part_lines(facts)
    weights = ", ".join(f"{name} {count:,}" for name, count in sorted(facts.weight_bytes_by_dtype.items()))
    yield f"weights {weights or 'none'} (bytes)"
    yield from _stored_lines(facts)
    yield from _heaviest_lines(facts)
    counts = sorted(facts.ops.items(), key=lambda item: (-item[1], item[0]))
    yield "ops     " + (", ".join(f"{name} x{count}" for name, count in counts) or "none")
    if facts.layout:
        yield f"layout  {facts.layout}"
    yield f"macs    {_macs(facts)}"
    yield from _grid_lines(facts.grids)
    yield from _duplicate_lines(facts)
    yield from _leftover_lines(facts)
    found = [facts.delegation] if facts.delegation else []
    if not found:
        yield "delegate cannot be told from the file on this machine" + (facts.undelegated and f": {facts.undelegated}")
    for each in (*found, *facts.forecasts):
        yield f"delegate {delegation_line(DelegationEntry.of(each))}"
    for key, value in facts.metadata.items():
        yield f"metadata {key}: {value}"


def _tensor(tensor: TensorFacts) -> str:
    sizes = f" ({tensor.sizes})" if tensor.sizes else ""
    return f"{tensor.name} {list(tensor.shape)} {tensor.dtype}{sizes}"


def _part_lines(facts: ArtifactFacts) -> Iterator[str]:
    for part in facts.parts[:_PARTS]:
        borders = (", ".join(map(_tensor, side)) or "nothing" for side in (part.inputs, part.outputs))
        what = "this one is described here; " if part.main else ""
        macs = "" if part.macs is None else f", {amount(part.macs)} MACs"
        yield f"{part.kind} {part.name}: {what}{part.operators} operators{macs}; {' -> '.join(borders)}"
    if len(facts.parts) > _PARTS:
        yield f"and {len(facts.parts) - _PARTS} more"


def _stored_lines(facts: ArtifactFacts) -> Iterator[str]:
    """Say how constants are stored that are not stored as they are read, and which are not in the file's own reach."""
    groups: defaultdict[tuple[str, str, str], list[Encoding]] = defaultdict(list)
    for each in facts.encodings:
        groups[_SHARE.sub("%", each.how), each.stored, each.read_as].append(each)
    for (words, stored, read_as), some in groups.items():
        size = sum(each.size_bytes for each in some)
        yield f"stored  {_constants(len(some))} as {stored}, read as {read_as} ({_how(words, some)}): {size:,} bytes"
    for name, size in facts.elsewhere.items():
        yield f"outside {size:,} bytes of constants are not in this file: {name}"
    for name, size in facts.unopened.items():
        yield f"opaque  {name}: {size:,} bytes that are not opened here; weights in them are not counted"


def _how(words: str, some: list[Encoding]) -> str:
    """Put the ends of their shares where the words have a sign for them."""
    shares = sorted(int(share) for each in some for share in _SHARE.findall(each.how))
    if not shares:
        return words
    return words.replace("%", f"{shares[0]}%" if shares[0] == shares[-1] else f"{shares[0]} to {shares[-1]}%", 1)


def _heaviest_lines(facts: ArtifactFacts) -> Iterator[str]:
    layers = sorted(facts.weight_bytes_by_layer.items(), key=lambda item: -sum(item[1].values()))
    total = sum(facts.weight_bytes_by_dtype.values())
    if len(layers) < 2 or not total:
        return
    for name, held in layers[:_HEAVIEST]:
        size = sum(held.values())
        yield f"heavy   {size:,} bytes ({percent(size / total)}): {_short(name)} ({', '.join(held)})"
    rest = layers[_HEAVIEST:]
    if rest:
        yield f"heavy   {sum(sum(held.values()) for _, held in rest):,} bytes: {len(rest)} more"


def _short(name: str) -> str:
    """Cut the middle out of a name that fills a line by itself: converters join those of all that was fused."""
    return name if len(name) <= _LONGEST_NAME else f"{name[:_HEAD]}…{name[_HEAD + 1 - _LONGEST_NAME :]}"


def _macs(facts: ArtifactFacts) -> str:
    """Say how many, and what that leaves out."""
    if facts.ops and not facts.operators:
        return "not counted"
    told = amount(sum(operator.macs for operator in facts.operators))
    unknown = Counter(operator.kind for operator in facts.operators if not operator.counted)
    if unknown:
        told += "; not counted: " + ", ".join(f"{kind} x{count}" for kind, count in unknown.most_common())
    if any(size < 0 for each in facts.operators if each.macs for value in each.outputs for size in value.shape):
        told += "; lengths that are not fixed count as 1"
    return told


def _grid_lines(grids: tuple[Grid, ...]) -> Iterator[str]:
    """Summarise the grids by what they are of."""
    for constant, what in ((True, "constants"), (False, "activations")):
        some = [grid for grid in grids if grid.constant is constant]
        if not some:
            continue
        dtypes = ", ".join(f"{dtype} x{count}" for dtype, count in Counter(grid.dtype for grid in some).most_common())
        channels, blocks = sum(grid.axis is not None for grid in some), Counter(g.block for g in some if g.block)
        by_block = f", {blocks.total()} by block of {' or '.join(map(_block, blocks))}" if blocks else ""
        scales = [scale for grid in some for scale in grid.scales]
        ends = f"scales {min(scales):.3g} to {max(scales):.3g}" if scales else "scales are not in the file"
        shifted = sum(any(grid.zero_points) for grid in some)
        yield (
            f"grids   {what}: {dtypes}; {channels} by channel, {len(some) - channels - blocks.total()} by tensor"
            f"{by_block}; {ends}; zero point not 0 in {shifted}"
        )


def _block(lengths: tuple[int, ...]) -> str:
    return "x".join(map(str, lengths))


def _constants(count: int) -> str:
    return f"{count} constant" + ("s" if count > 1 else "")


def _duplicate_lines(facts: ArtifactFacts) -> Iterator[str]:
    if not facts.duplicates:
        return
    wasted = sum(each.wasted_bytes for each in facts.duplicates)
    first = facts.duplicates[0]
    names = ", ".join(first.tensors[:_SHOWN]) + (", …" if len(first.tensors) > _SHOWN else "")
    verb = "are" if len(facts.duplicates) > 1 else "is"
    yield (
        f"twice   {_constants(len(facts.duplicates))} {verb} stored more than once, {wasted:,} bytes too many; "
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
