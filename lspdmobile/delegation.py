"""Which operators of a file a runtime's fast path takes: what a runtime did, or what published rules foretell.

A partition is a fact: LiteRT's interpreter divided the file on this machine, or the ``.pte`` holds the blobs it was
divided into. A forecast is a set of rules, each with its source and with how firm that source is:

==========  ======================================================================================
documented  the maker of the runtime says so, in its documentation or in its own source
observed    somebody published what a device did, and it can be looked up
reported    somebody says so; others may say otherwise. Shown as a doubt, and not counted as left
==========  ======================================================================================
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from lspdmobile.operators import Operator

__all__ = ["UNFORESEEN", "Basis", "Delegation", "DelegationRule", "Firmness", "Left", "divided", "forecast", "reasons"]

UNFORESEEN: Final = "no rule here foretells it"


class Basis(StrEnum):
    """Where a delegation is known from."""

    PARTITION = "partition"
    RULES = "rules"


class Firmness(StrEnum):
    """How firm a rule's source is."""

    DOCUMENTED = "documented"
    OBSERVED = "observed"
    REPORTED = "reported"


@dataclass(frozen=True, kw_only=True)
class DelegationRule:
    """One reason why a target does not take an operator.

    Attributes:
        name: A few words, unique within a target.
        text: What the target does, for people.
        source: Address of the page or source file that says so.
        firmness: How firm that source is.
        applies: Tells whether an operator is one the rule is about.
    """

    name: str
    text: str
    source: str
    firmness: Firmness
    applies: Callable[[Operator], bool]


@dataclass(frozen=True, kw_only=True)
class Left:
    """An operator that is not delegated, or that there is a doubt about.

    Attributes:
        operator, kind, macs: Which one.
        rule: Name of the rule; empty where a runtime left it for a reason that no rule here has.
        why: In words.
    """

    operator: str
    kind: str
    macs: int
    rule: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Delegation:
    """How many operators the fast path takes.

    Attributes:
        delegate: Name of the delegate.
        delegated, total: Operator counts.
        not_delegated: Operator types left behind, with multiplicity.
        target: What it is about, such as ``litert-xnnpack`` or ``coreml-ane``.
        basis: Whether a runtime did it, or rules foretell it.
        delegated_macs, total_macs: Multiply-accumulates of these operators.
        left: Each operator left behind, and why.
        doubtful: Operators that are counted as delegated although a report says otherwise.
    """

    delegate: str
    delegated: int
    total: int
    not_delegated: tuple[str, ...] = ()
    target: str = ""
    basis: Basis = Basis.PARTITION
    delegated_macs: int = 0
    total_macs: int = 0
    left: tuple[Left, ...] = ()
    doubtful: tuple[Left, ...] = ()

    @property
    def fraction(self) -> float:
        """Delegated over total; 1 for an empty program."""
        return self.delegated / self.total if self.total else 1.0

    @property
    def macs_fraction(self) -> float:
        """The same of the multiply-accumulates; 1 where there are none."""
        return self.delegated_macs / self.total_macs if self.total_macs else 1.0


def divided(
    operators: Sequence[Operator],
    left: Sequence[Left],
    *,
    delegate: str,
    target: str,
    basis: Basis = Basis.PARTITION,
    doubtful: Sequence[Left] = (),
) -> Delegation:
    """Count a division of operators.

    What the arguments mean is said in :class:`Delegation`; ``operators`` are all of them.
    """
    behind = Counter(each.kind for each in left)
    macs = sum(each.macs for each in operators)
    return Delegation(
        delegate=delegate,
        delegated=len(operators) - len(left),
        total=len(operators),
        not_delegated=tuple(f"{kind} x{count}" for kind, count in behind.most_common()),
        target=target,
        basis=basis,
        delegated_macs=macs - sum(each.macs for each in left),
        total_macs=macs,
        left=tuple(left),
        doubtful=tuple(doubtful),
    )


def forecast(
    operators: Sequence[Operator], rules: Sequence[DelegationRule], *, delegate: str, target: str
) -> Delegation:
    """Foretell by rules what a target takes; the first rule that applies to an operator is the reason given."""
    left: list[Left] = []
    doubtful: list[Left] = []
    for operator in operators:
        broken = [rule for rule in rules if rule.applies(operator)]
        firm = next((rule for rule in broken if rule.firmness is not Firmness.REPORTED), None)
        if firm is not None:
            left.append(_left(operator, firm))
        elif broken:
            doubtful.append(_left(operator, broken[0]))
    return divided(operators, left, delegate=delegate, target=target, basis=Basis.RULES, doubtful=doubtful)


def reasons(
    left: Iterable[Operator], rules: Sequence[DelegationRule], said: Mapping[str, str] | None = None
) -> tuple[Left, ...]:
    """Give the reason for each operator that a runtime really left.

    Args:
        left: What it left.
        rules: That may explain it.
        said: Operator to what the runtime said of it, where it said anything.
    """
    found: list[Left] = []
    for operator in left:
        words = (said or {}).get(operator.name)
        rule = next((rule for rule in rules if rule.applies(operator)), None)
        if words is None and rule is not None:
            found.append(_left(operator, rule))
        else:
            found.append(
                Left(operator=operator.name, kind=operator.kind, macs=operator.macs, rule="", why=words or UNFORESEEN)
            )
    return tuple(found)


def _left(operator: Operator, rule: DelegationRule) -> Left:
    return Left(operator=operator.name, kind=operator.kind, macs=operator.macs, rule=rule.name, why=rule.text)
