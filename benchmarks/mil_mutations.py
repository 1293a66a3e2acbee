"""Plant faults in Core ML packages and count which ``lspdmobile verify`` finds.

    python benchmarks/mil_mutations.py [--output docs/mil_mutations.md] [--students pyramid,mobilenet] [--seed 0]

Trains two small students, exports each, plants every kind of fault in every package that has a place for it, and
verifies. Exits with 1 where a fault above the stated tolerance passed or a harmless one failed.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.mutations.table import page, summary
from benchmarks.mutations.trial import Outcome, trial_of_everything
from benchmarks.mutations.world import CONFIGS


def main() -> int:
    """Plant, verify, write the page; gives the exit code."""
    parser = argparse.ArgumentParser(description="Plant faults in Core ML packages and count which verify finds.")
    parser.add_argument("--output", type=Path, help="page to write; without it the page is printed")
    parser.add_argument("--students", default=",".join(CONFIGS), help="comma list of " + ", ".join(CONFIGS))
    parser.add_argument("--seed", type=int, default=0, help="of where faults are planted")
    options = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        planted = trial_of_everything(Path(folder), options.students.split(","), seed=options.seed)
    text = page(planted)
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    else:
        print(text)
    wrong = [p for p in planted if p.outcome in (Outcome.MISSED, Outcome.FALSE_ALARM)]
    print(f"{summary(planted)} ({time.perf_counter() - started:.0f} s)")
    for p in wrong:
        print(f"{p.outcome}: {p}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
