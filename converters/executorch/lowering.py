"""From an exported program to the bytes of a ``.pte``, without the compiler's needless work.

ExecuTorch 1.4 spends about half of a lowering on things that change no byte of the result: every pass copies the whole
history of each node (``from_node``), and the XNNPACK backend compiles attention and resize patterns and retraces the
graph for passes whose operators the graph does not have. For one call, node histories are shared instead of copied and
idle passes are left out. Where a future version looks different, nothing is changed and the lowering is only slower.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from torch.export import ExportedProgram

__all__ = ["lower", "lower_portable", "replaced"]

_NEEDED_BY: Final = {
    "ConvertToUpsampleBilinear2d": ("index",),
    "ConvertToSDPAPass": ("mm", "matmul", "attention"),
    "ConvertToLinearPass": ("mm", "matmul", "aten.linear"),
    "FuseBatchNormPass": ("batch_norm",),
    "DecomposeBatchNorm": ("batch_norm",),
    "DecomposeConcatenate": ("cat",),
    "RemoveGetItemPass": ("max_pool", "max", "min", "batch_norm", "topk", "split", "chunk", "unbind"),
    "InsertPadQDQPass": ("pad",),
    "Conv1dUnsqueezePass": ("conv1d", "convolution"),
    "PReLUReshapePass": ("prelu",),
}
"""XNNPACK pass to the operator names (or parts of them) without which it has nothing to do."""


def lower(exported: ExportedProgram, constant_methods: dict[str, str], *, keep_all_passes: bool = False) -> bytes:
    """Lower a program to XNNPACK and serialise it.

    Args:
        exported: One picture in, heatmaps out.
        constant_methods: Method name to the text it returns.
        keep_all_passes: Do the needless work too; for comparison.
    """
    from executorch.backends.xnnpack.partition.config import ALL_PARTITIONER_CONFIGS
    from executorch.backends.xnnpack.partition.config.generic_node_configs import EluConfig
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    # ELU has a kernel but is missing from the stock list; without it each ELU splits the program in two.
    configs = [*ALL_PARTITIONER_CONFIGS, *([] if EluConfig in ALL_PARTITIONER_CONFIGS else [EluConfig])]
    _say_strides(exported)
    with _lean(exported, enabled=not keep_all_passes):
        edge = to_edge_transform_and_lower(
            exported,
            partitioner=[XnnpackPartitioner(configs=configs)],
            constant_methods=constant_methods,
            compile_config=EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True),
        )
        return bytes(edge.to_executorch().buffer)


def lower_portable(exported: ExportedProgram) -> bytes:
    """Lower a program for the portable kernels alone and serialise it."""
    import executorch.kernels.quantized  # noqa: F401 - tells the compiler of kernels for quantize and dequantize
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    with _lean(exported, enabled=True):
        edge = to_edge_transform_and_lower(
            exported, compile_config=EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True)
        )
        return bytes(edge.to_executorch().buffer)


def _say_strides(exported: ExportedProgram) -> None:
    """Write the stride of every max-pool out, the kernel where it was left out: XNNPACK's partitioner reads it."""
    for node in exported.graph.nodes:
        if str(node.target) == "aten.max_pool2d.default" and len(node.args) == 2 and "stride" not in node.kwargs:
            node.args = (*node.args, node.args[1])


@contextmanager
def _lean(exported: ExportedProgram, *, enabled: bool) -> Iterator[None]:
    """Share node histories and leave idle passes out while the block runs."""
    from executorch.backends.xnnpack import xnnpack_preprocess
    from torch.fx.traceback import NodeSource

    if not enabled:
        yield
        return
    stock: Any = getattr(xnnpack_preprocess, "XNNPACKPassManager", None)
    with replaced(NodeSource, "__deepcopy__", lambda self, _: self):
        if stock is None:
            yield
            return
        idle = _idle_passes(exported)

        def manager(program: ExportedProgram, passes: Any = None) -> Any:
            made = stock(program, passes=passes)
            made.passes = [each for each in made.passes if each.__name__ not in idle]
            return made

        with replaced(xnnpack_preprocess, "XNNPACKPassManager", manager):
            yield


def _idle_passes(exported: ExportedProgram) -> frozenset[str]:
    operators = " ".join({str(node.target) for node in exported.graph.nodes if node.op == "call_function"})
    return frozenset(name for name, needs in _NEEDED_BY.items() if not any(need in operators for need in needs))


@contextmanager
def replaced(owner: Any, name: str, value: Callable[..., Any]) -> Iterator[None]:
    """Give an attribute another value while the block runs."""
    had = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if had is None:
            delattr(owner, name)
        else:
            setattr(owner, name, had)
