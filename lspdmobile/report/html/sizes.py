"""Where bytes and multiply-accumulates are: files by dtype, layers of the fused network, operators of each file."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup

from lspdmobile.report.html.markup import NOTHING, bar, bars, closed, joined, table
from lspdmobile.report.schema import ArtifactEntry, FusionEntry, LayerEntry, Report
from lspdmobile.report.tables import MISSING, amount, fused_name, percent, size

__all__ = ["layers", "operators", "sizes"]

_MOST_SHOWN: Final = 12
_KINDS: Final = {
    "int8": "blue",
    "uint8": "blue",
    "int4": "blue",
    "float32": "orange",
    "float16": "teal",
    "int32": "violet",
}
_OTHER: Final = "grey"


def sizes(report: Report) -> Markup:
    """Draw each file's bytes beside the float student's, its constants by dtype."""
    rows: list[tuple[str | Markup, ...]] = []
    whole = max([report.student.bytes, *(a.bytes or 0 for a in report.artifacts)])
    if not any(artifact.bytes for artifact in report.artifacts):
        return NOTHING
    rows.append(
        ("float student", _stack({"float32": report.student.bytes}, whole), size(report.student.bytes), "float32")
    )
    for artifact in report.artifacts:
        held = dict(artifact.weight_bytes_by_dtype)
        rest = max((artifact.bytes or 0) - sum(held.values()), 0)
        told = ", ".join(f"{dtype} {size(n)}" for dtype, n in held.items()) or MISSING
        rows.append((artifact.label, _stack({**held, "": rest}, whole), size(artifact.bytes), told))
    return table(
        "Bytes of each file, constants by dtype; grey: the rest of the file",
        ("file", _key(report), "size", "constants"),
        rows,
    )


def _stack(held: Mapping[str, int], whole: int) -> Markup:
    parts = joined((bar(count / max(1, whole), _kind(dtype)) for dtype, count in held.items() if count), by="")
    return Markup('<span class="stack" aria-hidden="true">{}</span>').format(parts)


def _kind(dtype: str) -> str:
    return _KINDS.get(dtype, _OTHER)


def _key(report: Report) -> Markup:
    found = dict.fromkeys(["float32", *(d for a in report.artifacts for d in a.weight_bytes_by_dtype)])
    swatches = (Markup('<span class="key {}"></span> {}').format(_kind(dtype), dtype) for dtype in found)
    return joined(swatches, by=" ")


def layers(report: Report) -> Markup:
    """Lay the layers of each fused network out that compute most, with what int8 makes of their weights."""
    parts = []
    for number, fused in enumerate(report.fused_networks):
        content = _layers(fused, fused_name(report, fused))
        parts.append(content if number == 0 else closed(fused_name(report, fused), content))
    return joined(parts)


def _layers(fused: FusionEntry, name: str) -> Markup:
    if not fused.layers:
        return NOTHING
    ordered = sorted(fused.layers, key=lambda layer: (-layer.macs, -layer.params))
    shown, rest = ordered[:_MOST_SHOWN], ordered[_MOST_SHOWN:]
    macs = max(1, sum(layer.macs for layer in ordered))
    most = max(1, ordered[0].macs)
    forecast = fused.certificate.get("int8", {})
    quantized: Mapping[str, Any] = forecast.get("layers", {}) if isinstance(forecast, Mapping) else {}
    rows = [_layer(layer, macs, quantized.get(layer.name), most) for layer in shown]
    if rest:
        others = LayerEntry(
            name=f"{len(rest)} others", params=sum(each.params for each in rest), macs=sum(each.macs for each in rest)
        )
        rows.append(_layer(others, macs, None, 0))
    headings = ("layer", "work", "MACs", "share", "parameters", "int8 SNR dB", "channel ranges", "outliers")
    return table(f"{name}: layers by multiply-accumulates, and their weights in int8", headings, rows)


def _layer(layer: LayerEntry, macs: int, forecast: Mapping[str, Any] | None, most: int) -> tuple[str | Markup, ...]:
    chart = bars(bar(layer.macs / most, "blue")) if most else NOTHING
    known = forecast or {}
    spread, outliers = known.get("range_ratio"), known.get("outlier_channels")
    return (
        layer.name or "the network itself",
        chart,
        amount(layer.macs),
        percent(layer.macs / macs),
        amount(layer.params),
        MISSING if known.get("per_channel_db") is None else f"{known['per_channel_db']:.1f}",
        MISSING if spread is None else f"1 to {spread:.1f}",
        MISSING if outliers is None else str(len(outliers)),
    )


def operators(artifacts: Iterable[ArtifactEntry]) -> Markup:
    """Lay the operators of each file out that read most bytes."""
    return joined(
        closed(f"{artifact.label}: bytes by operator of the file", _operators(artifact))
        for artifact in artifacts
        if artifact.weight_bytes_by_layer
    )


def _operators(artifact: ArtifactEntry) -> Markup:
    ordered = sorted(artifact.weight_bytes_by_layer.items(), key=lambda item: -sum(item[1].values()))
    shown: list[tuple[str, Mapping[str, int]]] = list(ordered[:_MOST_SHOWN])
    rest = [held for _, held in ordered[_MOST_SHOWN:]]
    most = max(1, sum(ordered[0][1].values()))
    if rest:
        shown.append((f"{len(rest)} others", _summed(rest)))
    rows = [
        (
            name,
            _stack(held, max(most, sum(held.values()))),
            size(sum(held.values())),
            ", ".join(f"{dtype} {size(n)}" for dtype, n in held.items()),
        )
        for name, held in shown
    ]
    return table(
        f"{artifact.label}: constants by the operator that reads them",
        ("operator", "beside the largest", "bytes", "by dtype"),
        rows,
    )


def _summed(each: Sequence[Mapping[str, int]]) -> dict[str, int]:
    return {
        dtype: sum(held.get(dtype, 0) for held in each) for dtype in dict.fromkeys(d for held in each for d in held)
    }
