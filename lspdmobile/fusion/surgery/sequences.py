"""Two linear operators in a row become one: norms, constants, padding and 1x1 convolutions go into a neighbour."""

from torch import nn
from torch.fx import Node

from lspdmobile.fusion.linear import Linear, NotExactError
from lspdmobile.fusion.planner import Planner, conv_op, described
from lspdmobile.fusion.rewrites.norm_after_conv import Weighted, affine_of, folded
from lspdmobile.fusion.views import linear_view, one_after_the_other
from lspdmobile.fusion.work import Work

__all__ = ["FOLD_CONSTANT", "FOLD_NORM", "FOLD_PADDING", "MERGE_POINTWISE", "merge_sequences"]

FOLD_NORM = "fold norm"
FOLD_CONSTANT = "fold constant"
FOLD_PADDING = "fold padding"
MERGE_POINTWISE = "merge 1x1"
_Norm = nn.modules.batchnorm._BatchNorm


def merge_sequences(work: Work, planner: Planner) -> bool:
    """Merge every pair of linear operators of which the second alone reads the first; say whether there was one."""
    changed = False
    for node in list(work.graph.nodes):
        if node.users and (_merge(work, planner, node) or _fold_into_any_layer(work, node)):
            changed = True
    return changed


def _merge(work: Work, planner: Planner, node: Node) -> bool:
    try:
        second = linear_view(work, node)
        first = None if second is None else linear_view(work, second[1])
    except NotExactError:
        return False
    if first is None or second is None:
        return False
    before, (above, source) = second[1], first
    rewrite = _name(work, before, node)
    try:
        if not _may(work, before, node, rewrite):
            return False
        if not _pays(work, planner, (above, before), (second[0], node), source):
            work.refuse(node, rewrite, "one kernel would cost more than the two it replaces")
            return False
        linear = one_after_the_other(above, second[0])
        paths = _paths(work, before, node)
        with work.graph.inserting_before(node):
            new = work.conv_node(source, linear, paths=paths, shape=node.meta["shape"])
    except NotExactError as reason:
        work.refuse(node, rewrite, str(reason))
        return False
    new.meta["rewrites"] = before.meta["rewrites"]
    work.replace(node, new, rewrite, form=described(linear))
    return True


def _may(work: Work, before: Node, node: Node, rewrite: str) -> bool:
    """Whether the first operator is read by the second alone and neither shares its weights; notes why not."""
    if len(before.users) > 1:
        work.refuse(node, rewrite, f"{before.name} is read by {len(before.users)} operators")
        return False
    for each in (before, node):
        if (said := work.shared(each)) is not None:
            work.refuse(node, rewrite, f"shared weights: {said}; give each place its own copy")
            return False
    return True


def _pays(work: Work, planner: Planner, first: tuple[Linear, Node], second: tuple[Linear, Node], source: Node) -> bool:
    """Whether one operator costs no more than two; factors, summands and padding in a convolution cost nothing."""
    convs = [isinstance(work.layer(node), nn.Conv2d) for _, node in (first, second)]
    cheap = [linear.is_pointwise and linear.is_channelwise for linear, _ in (first, second)]
    if not any(convs):
        return first[0].is_affine and second[0].is_affine
    if not all(convs):
        return cheap[convs.index(False)]
    merged = one_after_the_other(first[0].on_meta, second[0].on_meta)
    size, between = source.meta["shape"][2:], first[1].meta["shape"][2:]
    apart = [conv_op(first[0], size), conv_op(second[0], between)]
    return planner.cost([conv_op(merged, size)]) <= planner.cost(apart)


def _name(work: Work, *nodes: Node) -> str:
    layers = [work.layer(node) for node in nodes]
    if any(isinstance(layer, _Norm) for layer in layers):
        return FOLD_NORM
    if all(isinstance(layer, nn.Conv2d) for layer in layers):
        return MERGE_POINTWISE
    return FOLD_PADDING if any("pad" in str(node.target) for node in nodes) else FOLD_CONSTANT


def _paths(work: Work, *nodes: Node) -> list[str]:
    """A convolution keeps its path; of two, the last one's is tried first."""
    convs = [node for node in nodes if isinstance(work.layer(node), nn.Conv2d)]
    named = [path for node in reversed(convs or list(nodes)) for path in node.meta["paths"]]
    return named or [nodes[-1].name]


def _fold_into_any_layer(work: Work, node: Node) -> bool:
    """Fold a norm into a transposed convolution, a matrix product, or a convolution of one or three axes."""
    norm, before = work.layer(node), node.args[0] if node.args else None
    layer = work.layer(before)
    if not (isinstance(norm, _Norm) and isinstance(before, Node) and isinstance(layer, Weighted)):
        return False
    if isinstance(layer, nn.Conv2d) or (isinstance(layer, nn.Linear) and len(node.meta["shape"] or ()) != 2):
        return False
    if not _may(work, before, node, FOLD_NORM):
        return False
    source = before.args[0]
    assert isinstance(source, Node)
    with work.graph.inserting_before(node):
        new = work.call(folded(layer, *affine_of(norm)), source, paths=before.meta["paths"], shape=None)
    new.meta["rewrites"] = before.meta["rewrites"]
    work.replace(node, new, FOLD_NORM, form=type(layer).__name__)
    return True
