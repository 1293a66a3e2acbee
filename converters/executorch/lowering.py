"""From an exported program to the bytes of a ``.pte``, without the compiler's needless work.

ExecuTorch 1.4 spends about three quarters of a lowering on things that change no byte of the result: those of
:mod:`converters.executorch.shortcuts`, and XNNPACK passes that compile attention and resize patterns for graphs without
such operators. For one call they are left out. Where a future version looks different, nothing is changed and the
lowering is only slower. ``python benchmarks/lowering_time.py --phases`` prints where the time goes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from torch.export import ExportedProgram

from converters.executorch.shortcuts import replaced, shortened

__all__ = ["lower", "lower_portable"]

_NEEDED_BY: Final = {"ConvertToUpsampleBilinear2d": ("index",), "ConvertToSDPAPass": ("mm", "matmul", "attention")}
"""XNNPACK pass that compiles patterns to the operator names (or parts of them) without which none can match."""


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
    """Take the shortcuts and leave idle XNNPACK passes out while the block runs."""
    from executorch.backends.xnnpack import xnnpack_preprocess

    if not enabled:
        yield
        return
    stock: Any = getattr(xnnpack_preprocess, "XNNPACKPassManager", None)
    with shortened():
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
