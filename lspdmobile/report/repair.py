"""What ``--repair`` did to an int8 plan, as part of ``report.json``."""

from lspdmobile.report.files import Entry, Number

__all__ = ["OperatorEntry", "RepairEntry", "TrialEntry"]


class OperatorEntry(Entry):
    """Operators that stay in float together, the share of the noise they made, and why they made it."""

    name: str
    kind: str
    units: tuple[str, ...]
    share: float
    cause: str


class TrialEntry(Entry):
    """One network that was judged: operators in float, what the weights grew by, drop in points, drift in pixels.

    ``on_front`` says that none that was judged is better in one of drop, size and integer operators and as good in the
    others.
    """

    kept_float: int
    extra_bytes: int
    drop: Number
    drift_p95_px: Number
    passed: bool
    integer_operators: int = 0
    on_front: bool = False
    chosen: bool = False


class RepairEntry(Entry):
    """A repair: of which artifacts, whether a network passed, what stays in float and why, and every network judged.

    ``operators`` is how many there are, ``weight_bytes`` their int8 weights, ``extra_bytes`` what those grow by.
    ``snr_db`` is that of the heatmaps before; ``exhaustive`` how many evaluations a ranking on the metric would take.
    """

    artifacts: tuple[str, ...]
    passed: bool
    operators: int
    kept_float: tuple[str, ...]
    weight_bytes: int
    extra_bytes: int
    snr_db: float
    causes: tuple[OperatorEntry, ...]
    trials: tuple[TrialEntry, ...]
    exhaustive: int

    @property
    def chosen(self) -> TrialEntry:
        """Give what was judged of the choice."""
        return next(trial for trial in self.trials if trial.chosen)

    def growth_percent(self, trial: TrialEntry) -> float:
        """Give how much larger the weights of a network are than in int8, in percent."""
        return 100 * trial.extra_bytes / max(1, self.weight_bytes)
