"""What every network's configuration can say of itself."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

__all__ = ["NetworkConfig"]


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Everything that shapes one kind of network; each kind adds its own fields.

    Attributes:
        keypoints: Number of heatmaps K.
        input_size: Rows and columns of the input picture, multiples of ``size_step``.
    """

    keypoints: int
    input_size: tuple[int, int]

    @property
    def heatmap_stride(self) -> int:
        """Input pixels per heatmap cell."""
        return 4

    @property
    def size_step(self) -> int:
        """What both sides of the input picture are multiples of: the stride of the coarsest features."""
        return 32

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as JSON-able values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`.

        Raises:
            TypeError: A field is missing or unknown.
        """
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        return cls(**values)
