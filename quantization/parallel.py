"""Independent pieces of work on several cores, with the same results on any number of them.

Each piece runs in one thread of its own and computes in that thread alone, so what it gives does not depend on how many
there are. PyTorch works outside Python's lock, so threads are enough and nothing is copied.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["mapped"]

T = TypeVar("T")
R = TypeVar("R")


def mapped(
    work: Callable[[T], R],
    items: Iterable[T],
    *,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[R]:
    """Do some work on every item; gives the results in the order of the items.

    Args:
        work: Must not depend on the other items.
        items: What to work on.
        jobs: Threads; None takes as many as PyTorch would.
        progress: Called in this thread with items done and their number; what it raises ends the work.

    Raises:
        ValueError: There is less than one job.
    """
    todo, threads = list(items), torch.get_num_threads()
    pool = ThreadPoolExecutor(threads if jobs is None else jobs, initializer=torch.set_num_threads, initargs=(1,))
    try:
        torch.set_num_threads(1)
        results: list[R] = []
        for result in pool.map(work, todo):
            results.append(result)
            if progress is not None:
                progress(len(results), len(todo))
        return results
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
