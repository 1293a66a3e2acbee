"""What a written file does not honour of its plan, layer by layer."""

from dataclasses import dataclass

__all__ = ["Shortfall"]


@dataclass(frozen=True, kw_only=True)
class Shortfall:
    """One thing that was planned and is otherwise in the file.

    Attributes:
        layer: The tensor or operator, as the file names it; where it names none, its kind.
        wanted: What the plan says, such as ``scale 0.0123``.
        found: What the file says.
        reason: Why, in words.
    """

    layer: str
    wanted: str
    found: str
    reason: str
