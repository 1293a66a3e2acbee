"""What a rewrite says it did: data only; the certificate looks both forms up by name and judges for itself."""

from dataclasses import dataclass

from torch import nn

__all__ = ["Site"]


@dataclass(frozen=True, kw_only=True)
class Site:
    """One place of the network that was rewritten.

    Attributes:
        name: Dotted path of the module that was rewritten.
        rewrite: Name of the rewrite.
        sources: Paths of the modules that, applied one after the other in the original network, give the old result.
        results: Paths of the modules that, applied one after the other in the fused network, give the new one.
        in_channels: Channels C of the input ``[N, C, H, W]`` of both.
    """

    name: str
    rewrite: str
    sources: tuple[str, ...]
    results: tuple[str, ...]
    in_channels: int

    def before(self, original: nn.Module) -> nn.Module:
        """Give the old form, taken from the original network."""
        return nn.Sequential(*(original.get_submodule(path) for path in self.sources))

    def after(self, fused: nn.Module) -> nn.Module:
        """Give the new form, taken from the fused network."""
        return nn.Sequential(*(fused.get_submodule(path) for path in self.results))
