"""The rewrites applied to a graph, until none applies any more."""

from torch.fx import GraphModule

from lspdmobile.fusion.planner import Planner
from lspdmobile.fusion.surgery.affines import rewrite_affines
from lspdmobile.fusion.surgery.concats import merge_concats
from lspdmobile.fusion.surgery.idle import clamp_once, fold_constants, remove_idle
from lspdmobile.fusion.surgery.kernels import reform_kernels
from lspdmobile.fusion.surgery.sequences import merge_sequences
from lspdmobile.fusion.surgery.sums import merge_sums
from lspdmobile.fusion.work import Work

__all__ = ["rewritten"]


def rewritten(captured: GraphModule, planner: Planner) -> Work:
    """Give the rewritten form of a captured graph, which is not touched.

    Every rewrite in the loop removes operators or lowers the planner's cost, so its end is reached.
    """
    work = Work(captured)
    remove_idle(work)
    fold_constants(work)
    clamp_once(work)
    changed = True
    while changed:
        changed = merge_sequences(work, planner)
        changed = merge_sums(work, planner) or changed
        changed = merge_concats(work, planner) or changed
    rewrite_affines(work, planner)
    reform_kernels(work, planner)
    remove_idle(work)
    return work
