"""Work on several cores: results in order, whatever the number of threads, and PyTorch left as it was."""

import time

import pytest
import torch

from quantization.parallel import mapped


def slower_first(item: int) -> tuple[int, int]:
    time.sleep(0.02 * (3 - item))
    return item, torch.get_num_threads()


@pytest.mark.parametrize("jobs", [None, 1, 3])
def test_results_come_in_the_order_of_the_items_and_each_is_of_one_thread(jobs: int | None) -> None:
    before, steps = torch.get_num_threads(), list[tuple[int, int]]()
    found = mapped(slower_first, range(3), jobs=jobs, progress=lambda *step: steps.append(step))
    assert found == [(0, 1), (1, 1), (2, 1)]
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert torch.get_num_threads() == before


def test_a_fault_ends_the_work_and_is_not_swallowed() -> None:
    before, done = torch.get_num_threads(), list[int]()

    def work(item: int) -> int:
        if item == 1:
            message = "planted"
            raise RuntimeError(message)
        done.append(item)
        return item

    with pytest.raises(RuntimeError, match="planted"):
        mapped(work, range(100), jobs=1)
    assert len(done) < 100
    assert torch.get_num_threads() == before


def test_whoever_watches_the_progress_can_stop_it() -> None:
    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mapped(slower_first, range(3), jobs=1, progress=stop)


def test_less_than_one_job_is_refused() -> None:
    with pytest.raises(ValueError, match="max_workers"):
        mapped(slower_first, range(3), jobs=0)
