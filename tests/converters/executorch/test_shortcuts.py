"""Shortcuts through ExecuTorch's compiler: taken where nothing would change, not taken where something would."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule

from converters.executorch.lowering import lower, lower_portable
from converters.executorch.shortcuts import _is_idle, replaced, shortened

PICTURE = (1, 4, 8, 8)


class Varied(nn.Module):
    """What compilers rewrite: views, parts, scalars, mixed types, edits in place, norms, and a running sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(8, 8)
        self.norm = nn.BatchNorm2d(4)
        self.register_buffer("offset", torch.ones(1, 4, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``[1, 4, 8, 8]`` to two such."""
        y = self.norm(self.first(x)).relu_() * 2.0 + self.offset
        low, high = y.chunk(2, dim=1)
        y = torch.cat((high, low), dim=1).permute(0, 1, 3, 2)
        y = self.second(y.reshape(1, 4, 8, 8)) + torch.ones(4, 8, 8, dtype=torch.int32)
        best, _ = y.max(dim=3, keepdim=True)
        y = nn.functional.interpolate(nn.functional.max_pool2d(y, 2), scale_factor=2, mode="bilinear") - best
        return torch.cumsum(y, dim=2), y.softmax(dim=1)


class Plain(nn.Module):
    """A convolution, an activation and a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[1, 4, 8, 8]`` to the same."""
        return torch.relu(self.conv(x)) + x


def exported(network: nn.Module) -> ExportedProgram:
    with torch.no_grad():
        return torch.export.export(network.eval(), (torch.zeros(PICTURE),))


@pytest.fixture
def traced() -> Iterator[list[ExportedProgram]]:
    """Give the programs that are traced anew."""
    from torch.export import exported_program

    stock, seen = exported_program._decompose_exported_program, list[ExportedProgram]()

    def noted(program: ExportedProgram, **options: Any) -> Any:
        seen.append(program)
        return stock(program, **options)

    with replaced(exported_program, "_decompose_exported_program", noted):
        yield seen


@pytest.mark.parametrize("kind", [Varied, Plain])
def test_no_byte_changes(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    network = kind()
    assert lower(exported(network), {}) == lower(exported(network), {}, keep_all_passes=True)


def test_no_byte_changes_for_portable_kernels() -> None:
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    torch.manual_seed(0)
    network = Varied()
    config = EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True)
    stock = to_edge_transform_and_lower(exported(network), compile_config=config).to_executorch().buffer
    assert lower_portable(exported(network)) == bytes(stock)


def test_a_plain_network_is_traced_once(traced: list[ExportedProgram]) -> None:
    lower(exported(Plain()), {})
    assert len(traced) == 1


class Edited(nn.Module):
    """Edits in place."""

    def forward(self, x: Tensor) -> Tensor:
        """Map anything to the same shape."""
        return (x + x).relu_()


class Unused(nn.Module):
    """Computes what nobody reads."""

    def forward(self, x: Tensor) -> Tensor:
        """Map anything to the same shape."""
        torch.sigmoid(x)
        return torch.relu(x)


@pytest.mark.parametrize(("network", "traces"), [(Plain(), 0), (Edited(), 1), (Unused(), 1), (nn.BatchNorm2d(4), 1)])
def test_only_what_would_come_out_the_same_is_not_traced(
    network: nn.Module, traces: int, traced: list[ExportedProgram]
) -> None:
    with shortened():
        found = exported(network).run_decompositions({})
    assert len(traced) == traces
    stock = exported(network).run_decompositions({})
    kinds = [[str(node.target) for node in each.graph.nodes if node.op == "call_function"] for each in (found, stock)]
    assert kinds[0] == kinds[1]


def test_what_a_table_takes_apart_is_traced(traced: list[ExportedProgram]) -> None:
    program = exported(Plain()).run_decompositions({})
    relu, sigmoid = torch.ops.aten.relu.default, torch.ops.aten.sigmoid.default
    traced.clear()
    with shortened():
        assert program.run_decompositions({sigmoid: torch.sigmoid}) is program
        found = program.run_decompositions({relu: lambda x: torch.clamp_min(x, 0)})
    assert relu not in {node.target for node in found.graph.nodes}
    assert len(traced) == 1


def passes() -> dict[str, tuple[Any, bool]]:
    """Give passes by what they do, and whether they leave every graph as it is."""
    from executorch.exir.pass_base import ExportPass

    class Looks(ExportPass):  # type: ignore[misc]
        def call_operator(self, op: Any, args: Any, kwargs: Any, meta: Any) -> Any:
            return super().call_operator(op, args, kwargs, meta)

    class Replaces(ExportPass):  # type: ignore[misc]
        def call_operator(self, op: Any, args: Any, kwargs: Any, meta: Any) -> Any:
            other = torch.ops.aten.sigmoid.default if op is torch.ops.aten.relu.default else op
            return super().call_operator(other, args, kwargs, meta)

    class Doubles(ExportPass):  # type: ignore[misc]
        def call_operator(self, op: Any, args: Any, kwargs: Any, meta: Any) -> Any:
            super().call_operator(op, args, kwargs, meta)
            return super().call_operator(op, args, kwargs, meta)

    class Drops(ExportPass):  # type: ignore[misc]
        def call_operator(self, op: Any, args: Any, kwargs: Any, meta: Any) -> Any:
            return args[0] if op is torch.ops.aten.relu.default else super().call_operator(op, args, kwargs, meta)

    class Swaps(ExportPass):  # type: ignore[misc]
        def call_operator(self, op: Any, args: Any, kwargs: Any, meta: Any) -> Any:
            return super().call_operator(op, args[::-1] if len(args) == 2 else args, kwargs, meta)

    class Counts(ExportPass):  # type: ignore[misc]
        count = 0

        def call_operator(self, op: Any, args: Any, kwargs: Any, meta: Any) -> Any:
            self.count += 1
            return super().call_operator(op, args, kwargs, meta)

    class Watches(ExportPass):  # type: ignore[misc]
        def placeholder(self, name: str, arg: Any, meta: Any) -> Any:
            return super().placeholder(name, arg, meta)

    idle, busy = (ExportPass, Looks), (Replaces, Doubles, Drops, Swaps, Counts, Watches)
    return {each.__name__: (each, each in idle) for each in (*idle, *busy)}


@pytest.mark.parametrize("name", sorted(passes()))
def test_a_pass_is_idle_where_it_changes_nothing(name: str) -> None:
    kind, idle = passes()[name]
    module = exported(Plain()).run_decompositions({}).graph_module
    step = kind()
    before = dict(vars(step))
    assert _is_idle(step, module) == idle
    assert vars(step) == before

    def kinds(found: GraphModule) -> list[tuple[Any, Any]]:
        return [(node.target, [each.op for each in node.all_input_nodes]) for node in found.graph.nodes]

    stock = kinds(kind()(module).graph_module)
    with shortened():
        copied = step(module).graph_module
    assert kinds(copied) == stock
    assert copied is not module


def test_a_graph_that_a_pass_edited_is_traced_anew() -> None:
    from executorch.exir.pass_base import ExportPass

    class Edits(ExportPass):  # type: ignore[misc]
        def call(self, module: GraphModule) -> Any:
            last = next(node for node in module.graph.nodes if node.op == "output")
            (source,) = last.all_input_nodes
            with module.graph.inserting_before(last):
                added = module.graph.call_function(torch.ops.aten.sigmoid.default, (source,))
            last.replace_input_with(source, added)
            return super().call(module)

    with shortened():
        found = Edits()(exported(Plain()).run_decompositions({}).graph_module).graph_module
    (added,) = (node for node in found.graph.nodes if node.target is torch.ops.aten.sigmoid.default)
    assert added.meta["val"].shape == PICTURE


def test_code_is_there_when_it_is_called_or_read() -> None:
    program = exported(Plain()).run_decompositions({})
    picture = torch.randn(PICTURE)
    with shortened():
        module = program.module()
        last = next(node for node in module.graph.nodes if node.target is torch.ops.aten.add.Tensor)
        last.target = torch.ops.aten.sub.Tensor
        module.recompile()
        assert "sub" in str(module.code)
        torch.testing.assert_close(module(picture), program.module()(picture) - 2 * picture)


def test_everything_is_as_it_was_afterwards() -> None:
    from executorch.exir.pass_base import ExportPass
    from torch.fx.passes.infra.pass_base import PassBase
    from torch.fx.traceback import NodeSource

    owners = (NodeSource, ExportedProgram, ExportPass, PassBase, GraphModule)

    def state() -> list[Any]:
        return [*(dict(vars(each)) for each in owners), gc.isenabled()]

    before = state()

    def fail_inside() -> None:
        with shortened():
            assert not any(a == b for a, b in zip(before, state(), strict=True))
            raise LookupError

    with pytest.raises(LookupError):
        fail_inside()
    assert state() == before


def test_garbage_stays_uncollected_where_it_was() -> None:
    gc.disable()
    try:
        with shortened():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_where_a_version_looks_different_it_is_only_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    from executorch.exir.pass_base import ExportPass

    torch.manual_seed(0)
    network = Plain()
    expected = lower(exported(network), {})
    monkeypatch.delattr("torch.fx.passes.infra.pass_base.PassBase")
    with shortened():
        assert "call" not in vars(ExportPass)
        assert vars(GraphModule)["recompile"].__module__ == shortened.__module__
    assert lower(exported(network), {}) == expected
