"""Where the CPU time of a lowering to ExecuTorch goes: what is called, and how often."""

import gc
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule

from converters.executorch.lowering import lower
from converters.executorch.shortcuts import replaced

__all__ = ["Phases", "phases_of"]


@dataclass(kw_only=True)
class Phases:
    """CPU seconds of each phase without the phases inside it, and how often each was entered."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    calls: Counter[str] = field(default_factory=Counter)
    inside: list[float] = field(default_factory=list)

    @contextmanager
    def during(self, name: str) -> Iterator[None]:
        """Count what the block takes."""
        started = time.process_time()
        self.inside.append(0.0)
        try:
            yield
        finally:
            taken = time.process_time() - started
            self.seconds[name] += taken - self.inside.pop()
            self.calls[name] += 1
            if self.inside:
                self.inside[-1] += taken

    def timed(self, name: str, stock: Callable[..., Any]) -> Callable[..., Any]:
        """Give a function that does the same and is counted."""

        def run(*args: Any, **named: Any) -> Any:
            with self.during(name):
                return stock(*args, **named)

        return run

    def collected(self, phase: str, _: dict[str, int]) -> None:
        """Count a garbage collection; for ``gc.callbacks``."""
        if phase == "start":
            self.inside.append(-time.process_time())
            return
        taken = time.process_time() + self.inside.pop()
        self.seconds["garbage collection"] += taken
        self.calls["garbage collection"] += 1
        if self.inside:
            self.inside[-1] += taken


def phases_of(exported: ExportedProgram, *, keep_all_passes: bool) -> Phases:
    """Lower a program and count; what is in no phase is named ``rest``.

    Args:
        exported: As for ``lower``, which may change it.
        keep_all_passes: Lower as ExecuTorch does by itself.
    """
    from executorch.backends.xnnpack import xnnpack_preprocess
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir.pass_base import ExportPass
    from executorch.exir.program import _program
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.passes.infra.pass_base import PassBase

    phases = Phases()
    places: tuple[tuple[Any, str, str], ...] = (
        (ExportedProgram, "run_decompositions", "tracing for decompositions"),
        (ExportPass, "call", "tracing for passes"),
        (FakeTensorMode, "dispatch", "operators on fake tensors"),
        (PassBase, "__call__", "passes themselves"),
        (XnnpackPartitioner, "partition", "partitioner"),
        (xnnpack_preprocess.XnnpackBackend, "preprocess", "XNNPACK's graph"),
        (_program, "serialize_for_executorch", "serialising"),
        (_program, "emit_program", "emitting"),
        (GraphModule, "recompile", "Python code of graphs"),
        (Graph, "lint", "checking graphs"),
        (ExportedProgram, "_validate", "checking programs"),
    )
    gc.collect()
    with ExitStack() as undone:
        for owner, name, phase in places:
            found = phases.timed(phase, getattr(owner, name))
            static = isinstance(vars(owner).get(name), staticmethod)
            undone.enter_context(replaced(owner, name, staticmethod(found) if static else found))
        gc.callbacks.append(phases.collected)
        undone.callback(gc.callbacks.remove, phases.collected)
        with phases.during("rest"):
            lower(exported, {}, keep_all_passes=keep_all_passes)
    return phases
