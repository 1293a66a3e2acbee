"""What a run says of its fused networks: parity, certificate, and which form each block took and why."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch

from lspdmobile.emission import Job
from lspdmobile.fusion import Certificate
from lspdmobile.fusion.cost import Cost
from lspdmobile.measuring import network_heatmaps
from lspdmobile.preparing import Prepared
from lspdmobile.report.schema import ArtifactEntry, FormEntry, FusionEntry, LayerEntry

__all__ = ["fusion_entry", "fusion_file"]

_WRAPPER: Final = "network."
"""Of the fused network's module around the student's."""


def fusion_entry(job: Job, entries: Sequence[ArtifactEntry]) -> FusionEntry:
    """Enter the fused networks: the first artifact's, and in it those of the others.

    Args:
        job: What the artifacts were made from.
        entries: The artifacts, in the order of ``job.prepared``.
    """
    groups: dict[int, list[tuple[ArtifactEntry, Prepared]]] = {}
    for entry, source in zip(entries, job.prepared.values(), strict=True):
        groups.setdefault(id(source.fused.network), []).append((entry, source))
    first, *others = (_one(job, members) for members in groups.values())
    return first.model_copy(update={"others": tuple(others)})


def fusion_file(fusion: FusionEntry) -> dict[str, Any]:
    """Give what ``fusion.json`` holds: the first network's certificate, and in it those of the others."""
    first, *others = ({"artifacts": list(each.artifacts), **each.certificate} for each in (fusion, *fusion.others))
    return {**first, "others": others}


def _one(job: Job, members: Sequence[tuple[ArtifactEntry, Prepared]]) -> FusionEntry:
    fused, labels = members[0][1].fused, tuple(entry.label for entry, _ in members)
    step = "fused" if len(members) == len(job.prepared) else f"fused for {labels[0]}"
    maps = network_heatmaps(fused.network, job.reference.views, step, job.progress)
    certificates = {(c.target, c.dtype): c for c in (source.fused.certificate for _, source in members)}
    after = fused.certificate.after
    return FusionEntry(
        params=after.params,
        macs=after.macs,
        bytes=4 * after.params,
        executed_by=f"PyTorch {torch.__version__}",
        parity=job.reference.entry(job.reference.compared_with(maps)),
        certificate=fused.certificate.to_dict(),
        artifacts=labels,
        layers=tuple(_layers(after)),
        forms=tuple(form for certificate in certificates.values() for form in _forms(certificate)),
    )


def _layers(cost: Cost) -> Iterator[LayerEntry]:
    """Enter the layers that hold or compute something, by their paths in the student."""
    for layer in cost.layers:
        if layer.params or layer.macs:
            yield LayerEntry(name=layer.name.removeprefix(_WRAPPER), params=layer.params, macs=layer.macs)


def _forms(certificate: Certificate) -> Iterator[FormEntry]:
    for site in certificate.sites:
        if site.choice is not None:
            yield FormEntry(
                target=certificate.target,
                dtype=certificate.dtype,
                site=site.name,
                form=site.form,
                **vars(site.choice),
            )
