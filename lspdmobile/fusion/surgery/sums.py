"""Sums of parallel linear branches: found in the graph, planned, and rewritten.

From an addition upwards the tree of additions that nobody else reads is taken apart into leaves; a factor or norm in
front of an addition goes to each of its summands. From every leaf the linear operators that nobody else reads are
followed upwards. The value that most leaves are linear maps of is the site's input; those leaves are its terms, and
what is left is added as before. A leaf that goes through a non-linearity ends there, so it is a term of what comes
after it and of nothing else.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import prod
from typing import Any, Final

import torch
from torch import nn
from torch.fx import Node

from lspdmobile.fusion.linear import Linear, NotExactError, identity, regrouped
from lspdmobile.fusion.operations import Op
from lspdmobile.fusion.planner import Form, Part, Planner, Term, conv_op, operation
from lspdmobile.fusion.quantizability import forecast_site
from lspdmobile.fusion.rewrites.branch_sum import embedded, merged
from lspdmobile.fusion.views import linear_view, one_after_the_other, summands
from lspdmobile.fusion.work import Work

__all__ = ["MERGE_BRANCHES", "merge_sums"]

MERGE_BRANCHES: Final = "merge branches"
_ADD: Final = torch.ops.aten.add.Tensor
_SUBTRACT: Final = torch.ops.aten.sub.Tensor


@dataclass(frozen=True, kw_only=True)
class _Option:
    """A leaf as a map of one value above it: the operators in between, last one first, and their product on meta."""

    source: Node
    chain: tuple[Node, ...]
    linear: Linear


@dataclass(frozen=True, kw_only=True)
class _Leaf:
    """A summand: node, the affine map that is applied to it, what it can be read as, and why that ended."""

    node: Node
    outer: Linear
    options: tuple[_Option, ...]
    end: str

    def of(self, source: Node) -> _Option | None:
        """Give the leaf as a map of a value; None where it is none."""
        return next((option for option in self.options if option.source is source), None)

    @property
    def sign(self) -> int:
        """Give 1 or -1 where that is all that is applied to the node, else 0."""
        if self.outer.bias is not None:
            return 0
        return next((s for s in (1, -1) if bool((self.outer.scale == s).all())), 0)


def merge_sums(work: Work, planner: Planner) -> bool:
    """Merge the branches of every sum, outermost sums first; say whether there was one."""
    changed = False
    for node in reversed(list(work.graph.nodes)):
        shape = node.meta["shape"]
        if node.users and shape is not None and len(shape) == 4 and summands(node) is not None:
            changed = any(_merge(work, planner, node, distribute=each) for each in (True, False)) or changed
    return changed


def _merge(work: Work, planner: Planner, root: Node, *, distribute: bool) -> bool:
    leaves = list(_leaves(work, root, identity(root.meta["shape"][1]), root, distribute=distribute))
    source = _common(leaves)
    if source is None:
        work.refuse(root, MERGE_BRANCHES, "; ".join(dict.fromkeys(leaf.end for leaf in leaves)))
        return False
    chosen = [(leaf, option) for leaf in leaves if (option := leaf.of(source)) is not None]
    others = [leaf for leaf in leaves if leaf.of(source) is None]
    if any(leaf.sign == 0 for leaf in others) or not any(option.chain for _, option in chosen):
        return False
    terms = [_term(work, leaf, option) for leaf, option in chosen]
    form = planner.best(terms, source.meta["shape"][2:])
    if form is None or form.is_unchanged:
        work.refuse(root, MERGE_BRANCHES, "no exact merged form" if form is None else "every other form costs more")
        return False
    new = _built(work, root, form, chosen, others)
    joined = [chosen[index][1] for part in form.parts if not part.stays for index in part.terms]
    consumed = (step for option in joined for each in option.chain for step in each.meta["rewrites"])
    new.meta["rewrites"] = tuple(dict.fromkeys(consumed))
    work.replace(root, new, MERGE_BRANCHES, form=form.text, choice=form.choice)
    return True


def _leaves(work: Work, node: Node, outer: Linear, root: Node, *, distribute: bool) -> Iterator[_Leaf]:
    """Take a tree of additions apart; with ``distribute`` also through factors and norms in front of an addition."""
    parts = summands(node) if node is root or len(node.users) == 1 else None
    if parts is not None:
        for index, (each, factor) in enumerate(parts):
            inner = outer if index == 0 else outer.without_bias()  # a summand of the whole counts once
            scaled = replace(inner, weight=inner.weight * factor)
            yield from _leaves(work, each, scaled, root, distribute=distribute)
        return
    below = _through_affine(work, node) if distribute and len(node.users) == 1 else None
    if below is not None:
        affine, source = below
        yield from _leaves(work, source, one_after_the_other(affine, outer), root, distribute=True)
        return
    yield _leaf(work, node, outer)


def _through_affine(work: Work, node: Node) -> tuple[Linear, Node] | None:
    """Give the factor or norm that a node is, if all it reads is an addition that nobody else reads."""
    try:
        view = linear_view(work, node)
    except NotExactError:
        return None
    if view is None or not view[0].is_affine or work.shared(node):
        return None
    source = view[1]
    if len(source.users) != 1:
        return None
    if summands(source) is not None:
        return view
    deeper = _through_affine(work, source)
    return None if deeper is None else view


def _leaf(work: Work, node: Node, outer: Linear) -> _Leaf:
    options = [_Option(source=node, chain=(), linear=outer.on_meta)]
    end = ""
    while not end:
        last = options[-1]
        try:
            end, step = _step(work, last.source)
            if step is not None:
                linear = one_after_the_other(step[0].on_meta, last.linear)
                options.append(_Option(source=step[1], chain=(*last.chain, last.source), linear=linear))
        except NotExactError as reason:
            end = str(reason)
    return _Leaf(node=node, outer=outer, options=tuple(options), end=end)


def _step(work: Work, node: Node) -> tuple[str, tuple[Linear, Node] | None]:
    """Give the map a node is, or why a branch ends at it.

    Raises:
        NotExactError: It is linear inside the picture only.
    """
    view = linear_view(work, node)
    if view is None:
        return f"a branch ends at {_said(work, node)}", None
    if len(node.users) > 1:
        return f"{node.name} is read by {len(node.users)} operators", None
    if (said := work.shared(node)) is not None:
        return f"shared weights: {said}; give each place its own copy", None
    return "", view


def _said(work: Work, node: Node) -> str:
    layer = work.layer(node)
    return f"{node.name} ({type(layer).__name__})" if layer is not None else node.name


def _common(leaves: Sequence[_Leaf]) -> Node | None:
    """Find the value that most leaves are linear maps of, at least two of them and not all by themselves."""
    counts: Counter[Node] = Counter()
    for leaf in leaves:
        counts.update(dict.fromkeys((option.source for option in leaf.options), 1))
    best = max(counts.values(), default=0)
    return next((source for source, count in counts.items() if count == best), None) if best > 1 else None


def _term(work: Work, leaf: _Leaf, option: _Option) -> Term:
    """Describe a leaf to the planner: as one map, and what it costs where it stays."""
    if leaf.sign == 0:
        return Term(linear=option.linear, kept=None)
    kept: list[Op] = []
    for node in option.chain:
        view = linear_view(work, node)
        assert view is not None
        size = view[1].meta["shape"][2:]
        is_conv = isinstance(work.layer(node), nn.Conv2d)
        kept.append(conv_op(view[0], size) if is_conv else operation(view[0], size))
    return Term(linear=option.linear, kept=tuple(kept))


def _built(
    work: Work,
    root: Node,
    form: Form,
    chosen: Sequence[tuple[_Leaf, _Option]],
    others: Sequence[_Leaf],
) -> Node:
    """Write a form into the graph in front of the old root."""
    whole = len(form.parts) == 1 and not others
    with work.graph.inserting_before(root):
        pieces = [_part(work, root, part, chosen, whole=whole) for part in form.parts]
        pieces += [(leaf.node, leaf.sign) for leaf in others]
        pieces.sort(key=lambda piece: -piece[1])
        total, sign = pieces[0]
        if sign < 0:  # every summand is subtracted
            total = work.operator(torch.ops.aten.neg.default, (total,), like=root)
        for node, factor in pieces[1:]:
            total = work.operator(_ADD if factor > 0 else _SUBTRACT, (total, node), like=root)
    return total


def _part(
    work: Work, root: Node, part: Part, chosen: Sequence[tuple[_Leaf, _Option]], *, whole: bool
) -> tuple[Node, int]:
    """Give the node of one part and the sign it is added with."""
    members = [chosen[index] for index in part.terms]
    if part.stays:
        leaf = members[0][0]
        return leaf.node, leaf.sign
    branches = [_real(work, leaf, option) for leaf, option in members]
    linear = merged(branches)
    chains = [node for _, option in members for node in option.chain]
    layers = sorted(chains, key=lambda node: -_size(work.layer(node)))
    paths = [path for node in layers for path in node.meta["paths"]]
    owner = root.meta["modules"][-1][0] if root.meta["modules"] else ""
    if whole and owner:
        paths = [owner, *paths]
    if len(branches) > 1:
        apart = (embedded(each, branches) for each in branches)
        kernels = [regrouped(each.weight, each.groups, linear.groups).numpy() for each in apart]
        name = (paths or [root.name])[0]
        # Their sum is taken anew: whether the merged kernel is right is for the certificate to say.
        work.int8[name] = forecast_site(name, kernels, sum(kernels[1:], start=kernels[0]))
    source = members[0][1].source
    return work.conv_node(source, linear, paths=paths or [root.name], shape=root.meta["shape"]), 1


def _size(layer: nn.Module | None) -> int:
    """Give the pixels of a convolution's kernel; 0 for anything else."""
    return prod(layer.kernel_size) if isinstance(layer, nn.Conv2d) else 0


def _real(work: Work, leaf: _Leaf, option: _Option) -> Linear:
    """Multiply a leaf's operators out, with their numbers."""
    views: list[Any] = [linear_view(work, node) for node in option.chain]
    linear = reduce(lambda after, view: one_after_the_other(view[0], after), views, leaf.outer)
    return merged([linear])
