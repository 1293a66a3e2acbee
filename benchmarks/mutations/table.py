"""Counts of planted faults as a page."""

from collections.abc import Sequence

from benchmarks.mutations.kinds import KINDS
from benchmarks.mutations.trial import Outcome, Planted

__all__ = ["page", "summary"]

_COMMAND = "python benchmarks/mil_mutations.py --output docs/mil_mutations.md"
_INTRODUCTION = f"""# Faults planted in Core ML packages

<!-- Written by `{_COMMAND}`. -->

One fault at a time is planted in a sound `.mlpackage` of a run; the manifest is given the hash of the broken file, as a
broken emitter would have left it, so that only reading and executing the file can find the fault. Then
`lspdmobile verify` judges. The packages: fp32, fp16, w8 and w8a8 of two small students (a residual pyramid with
bilinear resizes; depthwise and dilated convolutions with ELU), for each one that says the same function with more
operations, and a palettised one (Core ML Tools).

What a fault changes is found without `verify`: the broken package is run beside the sound one on the run's pictures.
The stated tolerance is the gate's: a relative heatmap error of 1e-5 for fp32 and 5e-3 for fp16 (palettes too); for w8
5e-3 in float32 arithmetic; for w8a8 0.25 steps (root mean square over a channel) at any int8 tensor computed from sound
ones. Both runs use our MIL executor.

- **above**: executed, and changed by more than the tolerance. **caught**: the gate failed it. **missed**: it passed.
- **by the plan alone**: how many of those caught only the comparison with the plan found; drift let them pass.
- **refused**: never judged; the loader, or the comparison with the manifest, refused the file.
- **harmless**: changed by less than the tolerance, and passed. **false alarm**: the same, and failed.
- **at the limit**: so near the tolerance that the sound package's own error decides.
"""
_COLUMNS = (
    "planted",
    "above",
    "caught",
    "missed",
    "by the plan alone",
    "refused",
    "harmless",
    "false alarm",
    "at the limit",
)


def summary(planted: Sequence[Planted]) -> str:
    """Say it in one line."""
    named = zip(_COLUMNS, _row(planted), strict=True)
    return ", ".join(f"{name} {count}" for name, count in named)


def page(planted: Sequence[Planted]) -> str:
    """Give the page: counts by kind, by package, and in all."""
    by_kind = [(kind, [p for p in planted if p.kind == kind]) for kind in KINDS]
    packages = sorted({p.package for p in planted})
    by_package = [(f"`{name}`", [p for p in planted if p.package == name]) for name in packages]
    return "\n".join(
        [_INTRODUCTION, *_table("kind", by_kind), "", *_table("package", by_package), "", _harmless(planted)]
    )


def _table(title: str, groups: Sequence[tuple[str, Sequence[Planted]]]) -> list[str]:
    everything = [p for _, group in groups for p in group]
    lines = [f"| {title} | {' | '.join(_COLUMNS)} |", f"|---|{'---:|' * len(_COLUMNS)}"]
    for name, group in [*groups, ("**all**", everything)]:
        lines.append(f"| {name} | {' | '.join(str(count) for count in _row(group))} |")
    return lines


def _row(planted: Sequence[Planted]) -> tuple[int, ...]:
    count = {outcome: sum(p.outcome is outcome for p in planted) for outcome in Outcome}
    return (
        len(planted),
        count[Outcome.CAUGHT] + count[Outcome.MISSED],
        count[Outcome.CAUGHT],
        count[Outcome.MISSED],
        sum(p.by_the_plan_alone for p in planted),
        count[Outcome.REFUSED],
        count[Outcome.HARMLESS],
        count[Outcome.FALSE_ALARM],
        count[Outcome.AT_THE_LIMIT],
    )


def _harmless(planted: Sequence[Planted]) -> str:
    """List the harmless faults that change something, the largest first."""
    passed = [p for p in planted if p.outcome is Outcome.HARMLESS]
    unchanged = sum(p.effect.share == 0 for p in passed)
    largest = sorted((p for p in passed if p.effect.share > 0), key=lambda p: -p.effect.share)[:8]
    lines = [f"Of {len(passed)} harmless faults {unchanged} change no value at all. The largest of the others:", ""]
    lines += [f"- `{p.package}`, {p.kind} ({p.where}): {p.effect.share:.2f} of the tolerance" for p in largest]
    return "\n".join([*lines, ""])
