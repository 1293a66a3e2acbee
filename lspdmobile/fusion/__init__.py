"""Fusion: replace parts of the float network by an algebraically identical, cheaper form, and prove that it is one.

One rewrite per file (``merge_branches``, ``fold_norm``); ``certificate`` is the proof and ``cost`` what was saved.
"""

import copy
from dataclasses import dataclass

import torch
from torch import nn

from lspdmobile.errors import GateFailedError
from lspdmobile.fusion.certificate import Certificate, certify
from lspdmobile.fusion.cost import Cost, cost_of, macs_of, params_of
from lspdmobile.fusion.fold_norm import fold_norms
from lspdmobile.fusion.merge_branches import LARGEST_KERNEL, merge_linear_branches
from lspdmobile.fusion.preconditions import refuse_unfusable
from lspdmobile.fusion.probes import randomise_norms
from lspdmobile.fusion.site import Site

__all__ = ["Certificate", "Cost", "Fused", "cost_of", "fuse", "macs_of", "params_of", "randomise_norms"]


@dataclass(frozen=True, kw_only=True)
class Fused:
    """A fused network and the evidence for it.

    Attributes:
        network: Fused copy in eval mode; maps what the original maps to the same values.
        certificate: What was rewritten and how exactly; its ``sites`` are empty where nothing was fused.
    """

    network: nn.Module
    certificate: Certificate


def fuse(
    network: nn.Module, *, input_size: tuple[int, int], seed: int = 0, largest_kernel: int = LARGEST_KERNEL
) -> Fused:
    """Fuse a copy of a network and certify it; the network itself is not touched.

    Args:
        network: Float network in eval mode; maps normalised pictures ``[N, 3, H, W]`` to one or more tensors.
        input_size: Rows and columns H, W to certify on and count MACs for.
        seed: Of the inputs and norm statistics the certificate tries.
        largest_kernel: Side of the largest depthwise kernel that branches are merged into.

    Raises:
        BadInputError: The network cannot be fused exactly (train mode, numbers that are not finite, norms without
            statistics, shared convolutions); the message names what and how to mend it.
        GateFailedError: The fused network is not identical to the original within the stated tolerances.
    """
    refuse_unfusable(network)

    def rewrite(original: nn.Module) -> tuple[nn.Module, tuple[Site, ...]]:
        return _rewritten(original, largest_kernel=largest_kernel)

    fused, sites = rewrite(network)
    certificate = certify(network, fused, sites, rewrite=rewrite, input_size=input_size, seed=seed)
    if not certificate.passed:
        message = f"fusion changed the network and must not ship; {len(certificate.faults)} checks failed, first: "
        raise GateFailedError(message + certificate.faults[0])
    return Fused(network=fused, certificate=certificate)


@torch.no_grad()
def _rewritten(original: nn.Module, *, largest_kernel: int) -> tuple[nn.Module, tuple[Site, ...]]:
    """Copy, merge branches while each still has its norm, then fold the norms that remain."""
    fused = copy.deepcopy(original)
    sites = [*merge_linear_branches(fused, largest_kernel=largest_kernel), *fold_norms(fused)]
    return fused, tuple(sites)
