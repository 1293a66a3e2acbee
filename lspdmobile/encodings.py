"""Constants that a file stores in another form than its operators read: halved, sparse, from a palette, on grids."""

from dataclasses import dataclass

__all__ = ["Encoding"]


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """One constant, and what is done to it before an operator reads it.

    Attributes:
        tensor: As the file names it.
        how: In words, such as ``DEQUANTIZE``, ``palette of 16``, ``sparse, 63% zeros``.
        stored: Dtype it is stored in.
        read_as: Dtype an operator reads.
        size_bytes: What it takes in the file, scales, palettes and places of what is not zero included.
    """

    tensor: str
    how: str
    stored: str
    read_as: str
    size_bytes: int
