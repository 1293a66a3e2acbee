"""Artifacts of several formats made at the same time, a process for each format.

The artifacts of one format share what its converter makes, so they stay together. Processes are forked: they see the
fused networks, the plans and the float heatmaps where the run left them, and copy nothing. Each uses one thread of
torch, because a pool of threads does not survive a fork. For the same reason a process that has loaded a runtime
before, as a program that exports twice may have, makes its formats one after the other.
"""

import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import torch

from lspdmobile.emission import Job, Judged, judged_artifact
from lspdmobile.errors import ConversionError
from lspdmobile.measuring import Progress
from lspdmobile.request import Pair

__all__ = ["can_fork", "judged_abreast"]

_POLL_SECONDS: Final = 0.1
_RUNTIMES: Final = (
    "ai_edge_litert",
    "coremltools",
    "executorch.extension.pybindings",
    "jax",
    "litert_torch",
    "tensorflow",
)
_shared: list[Job] = []
"""What the forked processes find."""


def can_fork() -> bool:
    """Tell whether this process can do it: on macOS the system's own libraries do not survive a fork."""
    able = sys.platform != "darwin" and "fork" in multiprocessing.get_all_start_methods()
    return able and not any(name in sys.modules for name in _RUNTIMES)


def judged_abreast(job: Job, targets: Sequence[Pair], *, jobs: int) -> list[Judged]:
    """Emit, execute and judge every target, so many formats at a time; gives them in their order.

    Raises:
        BadInputError: Something the user gave cannot be used.
        ConversionError: A process ended without a word, as one does that is killed for its memory.
    """
    formats = tuple(dict.fromkeys(form for form, _ in targets))
    if jobs < 2 or len(formats) < 2 or not can_fork():
        return [judged_artifact(job, form, precision) for form, precision in targets]
    context = multiprocessing.get_context("fork")
    told = context.Queue()
    with _seen(replace(job, progress=_teller(told))):
        pool = ProcessPoolExecutor(min(jobs, len(formats)), mp_context=context)
        try:
            futures = {form: pool.submit(_judged, [t for t in targets if t[0] is form]) for form in formats}
            _watch(list(futures.values()), told, job.progress)
            found = {pair: judged for future in futures.values() for pair, judged in future.result()}
        except BaseException as error:
            _stop(pool)
            if isinstance(error, BrokenProcessPool):
                message = "a converting process ended without a word, perhaps for lack of memory; try --jobs 1"
                raise ConversionError(message) from error
            raise
        pool.shutdown()
    return [found[target] for target in targets]


@contextmanager
def _seen(job: Job) -> Iterator[None]:
    _shared.append(job)
    try:
        yield
    finally:
        _shared.pop()


def _judged(targets: Sequence[Pair]) -> list[tuple[Pair, Judged]]:
    """Work in a forked process."""
    torch.set_num_threads(1)
    return [((form, precision), judged_artifact(_shared[-1], form, precision)) for form, precision in targets]


def _teller(told: Any) -> Progress:
    return lambda step, done, total: told.put((step, done, total))


def _watch(futures: list[Future[Any]], told: Any, progress: Progress) -> None:
    """Hand on what the processes tell until all have ended; raises what one of them raised."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=_POLL_SECONDS)
        while not told.empty():
            progress(*told.get())
        for future in done:
            future.result()


def _stop(pool: ProcessPoolExecutor) -> None:
    """End processes that are still at work, which the pool itself would wait for."""
    for process in list((pool._processes or {}).values()):
        process.terminate()
    pool.shutdown(cancel_futures=True)
