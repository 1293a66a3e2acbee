"""Why a run's networks are as they are: the forms of their blocks, and what stays in float, as rows and lines."""

from lspdmobile.choices import Verdict
from lspdmobile.report.schema import Report
from lspdmobile.report.tables import microseconds, pixels, points, size

__all__ = ["form_lines", "form_rows", "repair_lines", "repair_rows"]


def form_rows(report: Report) -> list[tuple[str, ...]]:
    """Give, for every form of blocks that a target chose: blocks, form, target and its prices.

    The columns are blocks, form, target, then the microseconds on it of the form, of branches apart and of one kernel,
    and the number of forms.
    """
    alike: dict[tuple[str, ...], list[str]] = {}
    for fused in report.fused_networks:
        for form in fused.forms:
            prices = (microseconds(form.cost), microseconds(form.apart), microseconds(form.one_kernel))
            alike.setdefault((form.form, f"{form.target} {form.dtype}", *prices, str(form.forms)), []).append(form.site)
    return [(", ".join(sites), *row) for row, sites in alike.items()]


def form_lines(report: Report) -> list[str]:
    """Say in a line for each fused network which forms its blocks took; nothing where there is only one network."""
    if len(report.fused_networks) < 2:
        return []
    return [
        f"fused for {', '.join(dict.fromkeys(form.target for form in fused.forms))}: "
        + ", ".join(f"{form.site} as {form.form}" for form in {form.site: form for form in fused.forms}.values())
        for fused in report.fused_networks
        if fused.forms
    ]


def repair_lines(report: Report) -> list[str]:
    """Say in a line what each repair did, then why, a line for each reason."""
    lines: list[str] = []
    for repair in report.repairs:
        before, after = repair.trials[0], repair.chosen
        growth = repair.growth_percent(after)
        done = "repaired" if repair.passed else "not repaired, nothing that was tried passes:"
        lines.append(
            f"{done} {', '.join(repair.artifacts)}: {len(repair.kept_float)} of {repair.operators} operators stay in "
            f"float (weights grow by {growth:.1f}%), drop {points(before.drop)} -> {points(after.drop)}, drift p95 "
            f"{pixels(before.drift_p95_px)} -> {pixels(after.drift_p95_px)} px; {len(repair.trials)} evaluations, "
            f"one by one it would be {repair.exhaustive}"
        )
        lines += [f"  {each.name}: {each.cause}" for each in repair.causes]
    return lines


def repair_rows(report: Report) -> list[tuple[str, ...]]:
    """Give every network that a repair judged, smallest first.

    The columns are artifacts, operators in float and in int8, growth and size of the weights, drop, drift, whether it
    is on the front or the choice, and the verdict.
    """
    return [
        (
            ", ".join(repair.artifacts),
            str(trial.kept_float),
            str(trial.integer_operators),
            f"{repair.growth_percent(trial):.1f}%",
            size(repair.weight_bytes + trial.extra_bytes),
            points(trial.drop),
            pixels(trial.drift_p95_px),
            "chosen" if trial.chosen else "on the front" if trial.on_front else "",
            (Verdict.PASS if trial.passed else Verdict.FAIL).value,
        )
        for repair in report.repairs
        for trial in sorted(repair.trials, key=lambda each: each.extra_bytes)
    ]
