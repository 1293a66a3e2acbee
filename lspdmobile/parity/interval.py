"""The interval of a paired drop, and how many pictures would decide.

Every picture gives one number: what the drop over all pictures owes to it, in points (a jackknife value; their mean is
the drop). Pictures are independent of each other, joints and persons of one picture are not, so the spread of these
numbers is what chance amounts to. The interval is Student's t, with one addition: to the high end comes a picture that
was not tried, and of which every joint is lost.

Without that picture no interval is to be trusted where losses are rare and large. A fault that ruins one picture in a
hundred shows on none of 128 pictures with probability 0.99^128 = 28 %, and whatever looks at the spread of the pictures
alone (t, bootstrap, BCa) passes it as often. With it, n pictures of which none changed leave room for a drop of about
300 / n points, which is the rule of three, and false passes stay below one in twenty from independent joints to whole
pictures (``benchmarks/gate_calibration.py`` prints how often, for this interval and for others).
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["ALL_POINTS", "paired_interval", "pictures_needed"]

ALL_POINTS: Final = 100.0
_POWER: Final = 0.8
_MOST_PICTURES: Final = 10_000_000


def paired_interval(per_picture: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """Give the two-sided interval of the drop, in points.

    Args:
        per_picture: ``[n]``: points that the drop owes to each picture; their mean is the drop.
        confidence: Chance that the interval holds the drop over all pictures there are, 0 to 1.

    Returns:
        Low and high end, within -100 to 100; one picture says nothing.
    """
    from scipy.special import stdtrit

    count, tail = per_picture.size, (1 + confidence) / 2
    if count == 0 or not np.isfinite(per_picture).all():
        return -ALL_POINTS, ALL_POINTS
    low = -ALL_POINTS
    if count > 1:
        low = per_picture.mean() - stdtrit(count - 1, tail) * per_picture.std(ddof=1) / math.sqrt(count)
    more = np.append(per_picture, ALL_POINTS)
    high = more.mean() + stdtrit(count, tail) * more.std(ddof=1) / math.sqrt(count + 1)
    return max(float(low), -ALL_POINTS), min(float(high), ALL_POINTS)


def pictures_needed(per_picture: NDArray[np.float64], budget: float, confidence: float) -> int | None:
    """Estimate how many pictures would bring the interval's high end inside the budget.

    Pictures like these are assumed, with this spread and this drop, or none where it is a gain; in four cases of five
    the number is enough: ``n = ((z_confidence + z_power) * spread / (budget - drop))^2``, with the picture that was not
    tried counted as in :func:`paired_interval`.

    Args:
        per_picture: ``[n]``, as above.
        budget: Points.
        confidence: Of the interval.

    Returns:
        A number rounded up to two digits; None where no number helps, because the drop uses the budget up, or more than
        ten million are needed.
    """
    from scipy.special import ndtri

    drop, spread = max(float(per_picture.mean()), 0.0), float(per_picture.std(ddof=1)) if per_picture.size > 1 else 0.0
    sure, able = ndtri((1 + confidence) / 2), ndtri(_POWER)

    def high(count: int) -> float:
        unseen = (ALL_POINTS - drop) / (count + 1)
        return float(
            drop + unseen + sure * math.hypot(spread / math.sqrt(count), unseen) + able * spread / math.sqrt(count)
        )

    if high(_MOST_PICTURES) > budget:
        return None
    low, enough = 0, 1
    while high(enough) > budget:
        low, enough = enough, 2 * enough
    while enough - low > 1:
        middle = (low + enough) // 2
        low, enough = (middle, enough) if high(middle) > budget else (low, middle)
    step: int = 10 ** max(len(str(enough)) - 2, 0)
    return math.ceil(enough / step) * step
