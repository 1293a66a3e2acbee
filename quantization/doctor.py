"""The calibration doctor: what is wrong with a set of calibration pictures, in sentences.

Each check looks at the facts that ``quantization.examination`` took of the inputs, or at the ranges of shares of the
pictures that ``quantization.observe`` kept. Calibration that means nothing is fatal; the rest is said and goes on.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lspdmobile.errors import BadInputError
from quantization.calibrate import Calibration
from quantization.examination import Examination
from quantization.stability import LARGEST_DISAGREEMENT, MOST_PICTURES, disagreement, enough_pictures

__all__ = ["Check", "Finding", "Severity", "diagnose", "refuse_meaningless"]

_FEWEST_PICTURES: Final = 16
_UNSTABLE_TENSOR: Final = 0.25
_MANY: Final = 0.1
_MOST_CLIPPED: Final = 0.5
_SCALES: Final = {
    "pixels of 0 to 255": (0.0, 255.0),
    "pixels of 0 to 1": (0.0, 1.0),
    "pixels of -1 to 1": (-1.0, 1.0),
    "standardised pixels": (-2.12, 2.641),
}
_SURE: Final = 3.0
_LIKELY: Final = 2.0
_NAMED: Final = 3


class Severity(StrEnum):
    """How bad a finding is."""

    NOTE = "note"
    WARNING = "warning"
    FATAL = "fatal"


class Check(StrEnum):
    """What was looked for."""

    NO_PICTURES = "no pictures"
    NOT_FINITE = "not finite"
    IDENTICAL = "identical"
    BLANK = "blank"
    DUPLICATES = "duplicates"
    FEW = "few pictures"
    UNSTABLE = "unstable ranges"
    NORMALISATION = "normalisation"
    COLOUR_ORDER = "colour order"
    CLIPPED = "clipped pictures"
    OVERLAP = "overlap with evaluation"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        check: What was looked for.
        severity: Whether it is fatal.
        what: What was found, where.
        mend: What to do about it.
        where: All the pictures or tensors it is about.
    """

    check: Check
    severity: Severity
    what: str
    mend: str
    where: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What was found and what to do, in one line."""
        return f"{self.what}; {self.mend}"


def diagnose(
    examined: Examination, *, evaluation: Examination | None = None, calibration: Calibration | None = None
) -> tuple[Finding, ...]:
    """Look for everything that can be wrong.

    Args:
        examined: The calibration inputs.
        evaluation: The evaluation inputs, to compare with.
        calibration: What the network did over the calibration inputs.

    Returns:
        Findings, the worst first.
    """
    found = list(_normalisation(examined)) if examined.pictures and not examined.not_finite else []
    misread = bool(found)  # then inputs do not tell pixels
    found += _meaningless(examined, misread=misread)
    if not any(each.severity is Severity.FATAL for each in found):
        found += _duplicates(examined)
        if not misread:
            found += [*_blank(examined), *_clipped(examined)]
        if evaluation is not None:
            found += [*_overlap(examined, evaluation), *_colour_order(examined, evaluation)]
        found += _few_or_unstable(len(examined), calibration)
    return tuple(sorted(found, key=lambda each: -list(Severity).index(each.severity)))


def refuse_meaningless(findings: Iterable[Finding]) -> None:
    """Stop where calibration means nothing.

    Raises:
        BadInputError: There is a fatal finding.
    """
    for finding in findings:
        if finding.severity is Severity.FATAL:
            raise BadInputError(finding.sentence)


def _meaningless(examined: Examination, *, misread: bool) -> Iterator[Finding]:
    pictures = examined.pictures
    if not len(examined):
        what = "there is no calibration picture"
        yield _fatal(Check.NO_PICTURES, what, "give --calib a folder or a labelled set of pictures like those in use")
    elif examined.not_finite:
        what = f"{_count(examined.not_finite, examined)} hold values that are not finite"
        yield _fatal(Check.NOT_FINITE, what, "remove or convert them", examined.not_finite)
    elif not misread and all(facts.blank for facts in pictures):
        what = f"all {len(pictures)} calibration pictures are blank: each has one colour"
        yield _fatal(Check.BLANK, what, "check how they were written; calibrate on pictures of people")
    elif len(pictures) > 1 and len({facts.digest for facts in pictures}) == 1:
        what = f"all {len(pictures)} calibration pictures are the same picture ({pictures[0].name})"
        yield _fatal(Check.IDENTICAL, what, "calibrate on different pictures like those in use")


def _blank(examined: Examination) -> Iterator[Finding]:
    blank = [facts.name for facts in examined.pictures if facts.blank]
    if blank:
        what = f"{_count(blank, examined)} are blank (one colour)"
        yield _finding(Check.BLANK, blank, examined, what, "remove them: they add nothing to the ranges")


def _duplicates(examined: Examination) -> Iterator[Finding]:
    pairs = [pair for pair in examined.repeated() if not examined.pictures[pair[0]].blank]
    if pairs:
        names = [examined.pictures[later].name for later, _, _ in pairs]
        exact = sum(equal for *_, equal in pairs)
        later, earlier, _ = pairs[0]
        example = f"{examined.pictures[later].name} repeats {examined.pictures[earlier].name}"
        what = (
            f"{len(names)} of {len(examined)} calibration pictures repeat another ({exact} exactly, "
            f"{len(names) - exact} nearly; {example})"
        )
        yield _finding(Check.DUPLICATES, names, examined, what, "replace them: the set is smaller than it looks")


def _overlap(examined: Examination, evaluation: Examination) -> Iterator[Finding]:
    pairs = [pair for pair in examined.shared_with(evaluation) if not examined.pictures[pair[0]].blank]
    if pairs:
        names = [examined.pictures[ours].name for ours, _, _ in pairs]
        ours, theirs, _ = pairs[0]
        example = f"{examined.pictures[ours].name} is {evaluation.pictures[theirs].name} there"
        what = f"{len(names)} of {len(examined)} calibration pictures are also judged on ({example})"
        mend = "take other pictures with --calib: the drop is measured on what the ranges were made for"
        yield _finding(Check.OVERLAP, names, examined, what, mend)


def _clipped(examined: Examination) -> Iterator[Finding]:
    names = [facts.name for facts in examined.pictures if facts.clipped > _MOST_CLIPPED and not facts.blank]
    if names:
        what = f"{_count(names, examined)} are clipped: over half of their values are 0 or 255"
        mend = "check their exposure or how they were converted, unless those in use are like them"
        yield _finding(Check.CLIPPED, names, examined, what, mend)


def _normalisation(examined: Examination) -> Iterator[Finding]:
    """Compare the smallest and largest inputs with what pixels of 0 and 255 become by the contract."""
    contract = examined.contract
    mean, std = np.asarray(contract.mean), np.asarray(contract.std)
    lows = np.min([facts.lows for facts in examined.pictures], axis=0)
    highs = np.max([facts.highs for facts in examined.pictures], axis=0)
    darkest, brightest = -mean / std, (1 - mean) / std
    slack = 0.01 * (brightest - darkest)
    outside = bool((lows < darkest - slack).any() or (highs > brightest + slack).any())
    guess = _scale_of(lows, highs, darkest, brightest)
    if outside or guess:
        wanted = f"{darkest.min():.3g} to {brightest.max():.3g}"
        found = f"{lows.min():.3g} to {highs.max():.3g}"
        like = f", which looks like {guess}" if guess else ""
        what = f"the inputs run from {found}{like}, where the preprocess contract gives {wanted}"
        mend = "make inputs with the contract's apply() or normalise(), as training did"
        yield Finding(check=Check.NORMALISATION, severity=Severity.WARNING, what=what, mend=mend)


Ends = NDArray[np.float64]


def _scale_of(lows: Ends, highs: Ends, darkest: Ends, brightest: Ends) -> str:
    """Name the usual scale that inputs have instead of the contract's, where it is clear; empty where it is not."""
    low, high = float(lows.min()), float(highs.max())
    for name, (least, most) in _SCALES.items():
        near = 0.05 * (most - least)
        is_contract = abs(darkest.min() - least) < near and abs(brightest.max() - most) < near
        touches = high > most - near and low < least + near
        if least <= low and high <= most and touches and not is_contract:
            return name
    return ""


def _colour_order(examined: Examination, evaluation: Examination) -> Iterator[Finding]:
    """Compare how much redder than blue the two sets are, as they are and with one of them swapped."""
    ours, theirs = (np.asarray([f.colour[0] - f.colour[2] for f in e.pictures]) for e in (examined, evaluation))
    if min(len(ours), len(theirs)) < _FEWEST_PICTURES:
        return
    error = math.hypot(_standard_error(ours), _standard_error(theirs)) or math.inf
    apart, swapped = (abs(sign * ours.mean() - theirs.mean()) / error for sign in (1, -1))
    if ours.mean() * theirs.mean() < 0 and apart > _SURE and swapped < _LIKELY:
        what = (
            f"red less blue is {ours.mean():.1f} grey levels in the calibration pictures and {theirs.mean():.1f} in "
            "the evaluation pictures: the two seem to be swapped in one of the sets"
        )
        mend = "write or read both as RGB, then calibrate again"
        yield Finding(check=Check.COLOUR_ORDER, severity=Severity.WARNING, what=what, mend=mend)


def _standard_error(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def _few_or_unstable(count: int, calibration: Calibration | None) -> Iterator[Finding]:
    """Compare the ranges that two halves of the pictures give (``quantization.stability``)."""
    few, unstable, said, enough = count < _FEWEST_PICTURES, False, "", _FEWEST_PICTURES
    names: tuple[str, ...] = ()
    if calibration is not None and count > 1:
        halves = disagreement(calibration.seen)
        worst = max(halves.by_tensor, key=lambda name: halves.by_tensor[name])
        names = tuple(name for name, found in halves.by_tensor.items() if found > _UNSTABLE_TENSOR)
        unstable = halves.mean > LARGEST_DISAGREEMENT
        enough = max(enough, enough_pictures(calibration.seen, count))
        most = f"{halves.by_tensor[worst]:.0%} on {worst}"
        said = f", and two halves of them disagree on the ranges by {halves.mean:.0%} on average, by {most}"
    if few or unstable:
        many = f"about {enough} would do" if enough < MOST_PICTURES else "more of them will hardly do"
        yield Finding(
            check=Check.FEW if few else Check.UNSTABLE,
            severity=Severity.WARNING,
            what=f"there are {count} calibration pictures{said}",
            mend=f"{many}; --estimator percentile or mse depends less on single pictures",
            where=names,
        )


def _finding(check: Check, names: Sequence[str], examined: Examination, what: str, mend: str) -> Finding:
    """Make a note, or a warning where it is about a tenth of the pictures or more."""
    severity = Severity.WARNING if len(names) >= _MANY * len(examined) else Severity.NOTE
    return Finding(check=check, severity=severity, what=what, mend=mend, where=tuple(names))


def _fatal(check: Check, what: str, mend: str, where: Sequence[str] = ()) -> Finding:
    return Finding(check=check, severity=Severity.FATAL, what=what, mend=mend, where=tuple(where))


def _count(names: Sequence[str], examined: Examination) -> str:
    """Say how many of the pictures it is about, and name some."""
    more = ", ..." if len(names) > _NAMED else ""
    return f"{len(names)} of {len(examined)} calibration pictures ({', '.join(names[:_NAMED])}{more})"
