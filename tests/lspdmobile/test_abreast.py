"""Formats at the same time: order, progress, and what happens where a process fails."""

import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import pytest

from lspdmobile import abreast
from lspdmobile.abreast import judged_abreast
from lspdmobile.choices import Format, Precision
from lspdmobile.emission import Job, Judged
from lspdmobile.errors import BadInputError, ConversionError

TARGETS = [
    (Format.COREML, Precision.FP32),
    (Format.TFLITE, Precision.FP32),
    (Format.TFLITE, Precision.W8A8),
    (Format.EXECUTORCH, Precision.W8A8),
]

needs_fork = pytest.mark.skipif(sys.platform == "darwin" or not hasattr(os, "fork"), reason="this system cannot fork")


@pytest.fixture(autouse=True)
def _no_runtime_was_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever other tests have done in this process."""
    monkeypatch.setattr(abreast, "_RUNTIMES", ())


class Work:
    """Stands in for one artifact's work, and does what a test tells it to."""

    def __init__(self, **told: Any) -> None:
        self.told = told

    def __call__(self, job: Job, form: Format, precision: Precision) -> Judged:
        """Say which process did it, in the place of the entry."""
        job.progress(f"emit {form}", 1, 1)
        action = self.told.get(form.value)
        if action is not None:
            action()
        return Judged(entry=cast("Any", (form, precision, os.getpid())))


def job(progress: Any = lambda *_: None) -> Job:
    """Give a job of which only the progress is used."""
    nothing = cast("Any", None)
    empty = np.empty(0, np.float32)
    return Job(
        request=nothing,
        prepared={},
        reference=nothing,
        folder=Path(),
        progress=progress,
        scanned=empty,
        calibration=nothing,
    )


def found(judged: list[Judged]) -> list[tuple[Format, Precision, int]]:
    return [cast("Any", each.entry) for each in judged]


@needs_fork
def test_results_keep_their_order_and_a_format_stays_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first format is the last to be done."""
    monkeypatch.setattr(abreast, "judged_artifact", Work(coreml=lambda: time.sleep(0.5)))

    entries = found(judged_abreast(job(), TARGETS, jobs=3))

    assert [(form, precision) for form, precision, _ in entries] == TARGETS
    processes = {form: {pid for f, _, pid in entries if f is form} for form in Format}
    assert all(len(pids) == 1 for pids in processes.values())
    assert os.getpid() not in set.union(*processes.values())


@needs_fork
def test_formats_really_run_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits until the other has begun."""
    reader, writer = os.pipe()
    monkeypatch.setattr(
        abreast, "judged_artifact", Work(coreml=lambda: os.read(reader, 1), tflite=lambda: os.write(writer, b"x"))
    )

    assert len(judged_abreast(job(), TARGETS[:2], jobs=2)) == 2


@needs_fork
def test_progress_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abreast, "judged_artifact", Work(coreml=lambda: time.sleep(0.3)))
    seen: list[str] = []

    judged_abreast(job(lambda step, *_: seen.append(step)), TARGETS, jobs=2)

    assert set(seen) == {"emit coreml", "emit tflite", "emit executorch"}


@pytest.mark.parametrize(("jobs", "targets"), [(1, TARGETS), (3, TARGETS[1:3])])
def test_one_job_or_one_format_stays_in_this_process(
    monkeypatch: pytest.MonkeyPatch, jobs: int, targets: list[Any]
) -> None:
    monkeypatch.setattr(abreast, "judged_artifact", Work())

    assert {pid for *_, pid in found(judged_abreast(job(), targets, jobs=jobs))} == {os.getpid()}


@needs_fork
def test_a_process_that_is_killed_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abreast, "judged_artifact", Work(tflite=lambda: os._exit(9)))

    with pytest.raises(ConversionError, match="ended without a word, perhaps for lack of memory; try --jobs 1"):
        judged_abreast(job(), TARGETS, jobs=3)


@needs_fork
def test_a_process_that_has_loaded_a_runtime_is_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abreast, "judged_artifact", Work())
    monkeypatch.setattr(abreast, "_RUNTIMES", ("ai_edge_litert",))
    monkeypatch.setitem(sys.modules, "ai_edge_litert", ModuleType("ai_edge_litert"))

    assert {pid for *_, pid in found(judged_abreast(job(), TARGETS, jobs=3))} == {os.getpid()}


def _bad() -> None:
    message = "pictures are gone"
    raise BadInputError(message)


@needs_fork
def test_an_error_in_a_process_ends_the_others_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abreast, "judged_artifact", Work(tflite=_bad, coreml=lambda: time.sleep(60)))
    start = time.monotonic()

    with pytest.raises(BadInputError, match="pictures are gone"):
        judged_abreast(job(), TARGETS, jobs=3)

    assert time.monotonic() - start < 30


@needs_fork
def test_an_interrupt_ends_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abreast, "judged_artifact", Work(coreml=lambda: time.sleep(60)))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        judged_abreast(job(interrupted), TARGETS, jobs=3)

    assert time.monotonic() - start < 30
