"""Forms of a site: every partition is a candidate, cost alone decides."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import pytest
import torch

from lspdmobile.fusion import fuse, randomise_norms
from lspdmobile.fusion.largest_kernel import LargestKernel
from lspdmobile.fusion.linear import Linear
from lspdmobile.fusion.operations import AddOp, ConvOp, Dtype, Op
from lspdmobile.fusion.planner import Form, Planner, Term, conv_op, described
from lspdmobile.networks.blocks import LinearBranches

C = 16
SIZE = (32, 32)
BELL = {1: 1, 2: 2, 3: 5, 4: 15, 5: 52}


@dataclass(frozen=True)
class Priced:
    """A target by a price per tap, and one per operator."""

    per_tap: float = 0.0
    per_conv: float = 0.0
    per_add: float = 0.0
    name: str = "priced"
    seen: list[Dtype] = field(default_factory=list)

    def cost(self, ops: Sequence[Op], dtype: Dtype) -> float:
        """See the class."""
        self.seen.append(dtype)
        convs = [op for op in ops if isinstance(op, ConvOp)]
        taps = sum(op.kernel[0] * op.kernel[1] for op in convs)
        return self.per_tap * taps + self.per_conv * len(convs) + self.per_add * (len(ops) - len(convs))


def depthwise(side: int, dilation: int = 1) -> Linear:
    reach = dilation * (side // 2)
    weight = torch.randn(C, 1, side, side, dtype=torch.float64)
    return Linear(weight=weight, groups=C, dilation=(dilation, dilation), padding=(reach,) * 4)


def term(linear: Linear) -> Term:
    return Term(linear=linear.on_meta, kept=(conv_op(linear, SIZE),))


def best(model: object, *linears: Linear, dtype: Dtype = "fp32") -> Form:
    found = Planner(model=model, dtype=dtype).best([term(each) for each in linears], SIZE)  # type: ignore[arg-type]
    assert found is not None
    return found


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_every_partition_is_considered(count: int) -> None:
    assert best(Priced(per_tap=1), *[depthwise(3, 1 + i) for i in range(count)]).choice.forms == BELL[count]


def test_dear_taps_keep_dilated_branches_apart_and_dear_operators_merge_them() -> None:
    branches = depthwise(3), depthwise(3, 2), depthwise(3, 3)
    apart, together = best(Priced(per_tap=1), *branches), best(Priced(per_conv=100, per_add=1), *branches)
    assert apart.text == "3x3 depthwise + 3x3 d2 depthwise + 3x3 d3 depthwise"
    assert apart.is_unchanged
    assert together.text == "7x7 depthwise"
    assert not together.is_unchanged


def test_the_choice_is_never_dearer_than_any_form_there_is() -> None:
    """Against an enumeration of its own: which terms share a part."""
    branches = [depthwise(3), depthwise(3, 2), depthwise(5), depthwise(1)]
    for model in (Priced(per_tap=1, per_conv=7, per_add=3), Priced(per_tap=2, per_conv=1), LargestKernel(side=5)):
        found = best(model, *branches)
        for pair in combinations(range(4), 2):
            rest = [depthwise_op(branches[i]) for i in range(4) if i not in pair]
            sides = max(branches[i].dilation[0] * (branches[i].kernel[0] - 1) + 1 for i in pair)
            ops: list[Op] = [depthwise_op(depthwise(sides)), *rest, *[AddOp(channels=C, size=SIZE)] * 2]
            assert found.choice.cost <= model.cost(ops, "fp32") + 1e-9


def depthwise_op(linear: Linear) -> ConvOp:
    return conv_op(linear, SIZE)


def test_equal_costs_go_to_fewer_operators() -> None:
    assert best(Priced(), depthwise(3), depthwise(3)).text == "3x3 depthwise"


def test_the_type_that_will_be_computed_in_reaches_the_model() -> None:
    model = Priced(per_tap=1)
    best(model, depthwise(3), depthwise(3), dtype="int8")
    assert set(model.seen) == {"int8"}


def test_many_terms_of_one_kernel_are_put_together_first() -> None:
    found = best(Priced(per_tap=1), *[depthwise(3) for _ in range(9)], depthwise(3, 2))
    assert found.text == "3x3 depthwise + 3x3 d2 depthwise"
    assert found.choice.forms == BELL[2]


def test_without_a_target_branches_merge_up_to_the_largest_kernel_and_no_further() -> None:
    branches = depthwise(3), depthwise(3, 2), depthwise(1), depthwise(3, 3)
    assert best(LargestKernel(side=5), *branches).text.split(" + ") == ["5x5 depthwise", "3x3 d3 depthwise"]
    assert best(LargestKernel(side=7), *branches).text == "7x7 depthwise"


def test_a_form_is_said_in_words() -> None:
    assert (
        described(Linear(weight=torch.zeros(4, 2, 3, 1), groups=2, stride=(2, 2), dilation=(3, 1))) == "3x1 d3x1 s2 g2"
    )


@pytest.mark.parametrize(
    ("model", "kernels"),
    [(Priced(per_tap=1), [3, 3, 3]), (Priced(per_conv=1), [7]), (LargestKernel(side=5), [3, 5])],
)
def test_one_block_takes_the_form_its_target_likes_and_is_certified_in_each(model: object, kernels: list[int]) -> None:
    block = LinearBranches(C, ["3x3d1", "3x3d2", "3x3d3", "identity"]).eval()
    randomise_norms(block, torch.Generator().manual_seed(1))
    found = fuse(block, inputs=(torch.randn(1, C, 16, 16),), target=model)  # type: ignore[arg-type]
    convs = [m for m in found.network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert sorted(conv.kernel_size[0] for conv in convs) == kernels
    assert found.certificate.passed
    assert found.certificate.target == model.name  # type: ignore[attr-defined]


def test_a_large_kernel_with_zero_taps_is_split_where_the_target_likes_it() -> None:
    conv = torch.nn.Conv2d(C, C, 7, padding=3, groups=C).eval()
    mask = torch.zeros(7, 7)
    mask[2:5, 2:5] = 1
    mask[::3, ::3] = 1
    conv.weight.data *= mask
    found = fuse(conv, inputs=(torch.randn(1, C, 16, 16),), target=Priced(per_tap=1)).certificate
    assert [site.rewrite for site in found.sites] == ["split kernel"]
    assert sorted(found.sites[0].form.split(" + ")) == ["3x3 d3 depthwise", "3x3 depthwise"]
    whole = fuse(conv, inputs=(torch.randn(1, C, 16, 16),), target=Priced(per_conv=1)).certificate
    assert whole.sites == ()
