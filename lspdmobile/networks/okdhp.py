"""OKDHP (Li et al., ICCV 2021): several branches train together, their weighted ensemble teaches all, one branch ships.

Re-made from the paper's text and figures, not from the released code, whose defects are not repeated here:

- It picks the branches' results by position in one flat list, and at two private stacks mixes an intermediate result in
  and leaves the first branch out. Here every branch's outputs are kept under their branch (``BranchOutputs``).
- Its variant without sharing counts positions that are right for two stacks only. Here sharing is a number, 0 included.
- It fixes the heatmaps at 16. Here K is a field.
- Its distillation target keeps its gradient. Here it is detached (``lspdmobile.train.losses.taught``).

Balanced: all branches are alike and the best ships. Unbalanced: the other branches (helpers) are longer,
and the target, branch 0, ships. What ships is in both cases a plain network without a trace of the others.
"""

from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, nn

from lspdmobile.networks.blocks import initialise
from lspdmobile.networks.feature_aggregation import Aggregation, BranchOutputs, FeatureAggregationUnit
from lspdmobile.networks.hourglass import HourglassConfig, StackedHourglass, chained, joins_of, stacks_of, stem
from lspdmobile.networks.mobile_pose import Decoder, Encoder, MobilePose, MobilePoseConfig

__all__ = ["OkdhpConfig", "OkdhpHourglass", "OkdhpMobilePose", "OkdhpMobilePoseConfig"]

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class OkdhpConfig(HourglassConfig):
    """A stacked hourglass and the branches it trains among.

    Attributes:
        shared: Stacks all branches share; half of the target's in the paper.
        helpers: Stacks of each other branch, the shared ones included; equal to ``stacks`` in the balanced scheme.
        aggregation: Form of the Feature Aggregation Unit.
    """

    shared: int
    helpers: tuple[int, ...]
    aggregation: Aggregation = "paper"

    def __post_init__(self) -> None:
        """Refuse branches that would have no stack of their own.

        Raises:
            ValueError: A branch has no private stack, or the number of shared ones is negative.
        """
        if self.shared < 0 or min(self.branch_stacks) <= self.shared:
            message = f"{self.shared} shared stacks leave a branch of {self.stacks}, {self.helpers} stacks none"
            raise ValueError(message)

    @property
    def branch_stacks(self) -> tuple[int, ...]:
        """Stacks of every branch as it would ship; the first is the target's."""
        return self.stacks, *self.helpers


@dataclass(frozen=True, kw_only=True)
class OkdhpMobilePoseConfig(MobilePoseConfig):
    """A light encoder-decoder and the decoders it trains among.

    Attributes:
        decoders: Branches T, alike.
        aggregation: Form of the Feature Aggregation Unit.
    """

    decoders: int = 3
    aggregation: Aggregation = "paper"


class _Branch(nn.Module):
    """The private stacks of a branch."""

    def __init__(self, config: HourglassConfig, stacks: int) -> None:
        super().__init__()
        self.stacks = stacks_of(config, stacks)
        self.joins = joins_of(config, stacks - 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map ``[N, C, h, w]`` to each stack's heatmaps."""
        return tuple(chained(x, self.stacks, self.joins)[1])


class OkdhpHourglass(nn.Module):
    """Training network: stem and first stacks shared, then a branch each, weighed by the unit on the stem's features.

    The join after the last shared stack is shared as well: all branches read the same.
    """

    def __init__(self, config: OkdhpConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = stem(config.channels)
        self.stacks = stacks_of(config, config.shared)
        self.joins = joins_of(config, config.shared)
        self.branches = nn.ModuleList(_Branch(config, count - config.shared) for count in config.branch_stacks)
        self.aggregate = FeatureAggregationUnit(
            config.channels, keypoints=config.keypoints, branches=len(self.branches), form=config.aggregation
        )
        initialise(self)

    def forward(self, pictures: Tensor) -> BranchOutputs:
        """Map normalised pictures ``[N, 3, H, W]`` to the heatmaps of every stack and their ensemble."""
        features = self.stem(pictures)
        x, shared = chained(features, self.stacks, self.joins)
        branches = tuple(branch(x) for branch in self.branches)
        ensemble = self.aggregate(features, [branch[-1] for branch in branches])
        return BranchOutputs(shared=tuple(shared), branches=branches, ensemble=ensemble)

    def deployed(self, branch: int = 0) -> StackedHourglass:
        """Copy a branch out as a plain stacked hourglass in eval mode that gives the branch's results bit for bit."""
        config = self.config
        shipped = HourglassConfig(
            keypoints=config.keypoints,
            input_size=config.input_size,
            stacks=config.branch_stacks[branch],
            channels=config.channels,
        )
        return _copied(StackedHourglass(shipped), self.parts(branch))

    def parts(self, branch: int) -> nn.ModuleDict:
        """Give what a branch ships as, not copied, by the names it has in the plain network."""
        own = self.branches[branch]
        assert isinstance(own, _Branch)
        stacks, joins = nn.ModuleList([*self.stacks, *own.stacks]), nn.ModuleList([*self.joins, *own.joins])
        return nn.ModuleDict({"stem": self.stem, "stacks": stacks, "joins": joins})


class OkdhpMobilePose(nn.Module):
    """Training network of the light form: one encoder, a whole decoder for every branch.

    The unit reads the encoder's coarsest features, the last that all branches share; which ones the paper's
    supplement used is not public.
    """

    def __init__(self, config: OkdhpMobilePoseConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.branches = nn.ModuleList(Decoder(config) for _ in range(config.decoders))
        self.aggregate = FeatureAggregationUnit(
            config.channels[-1], keypoints=config.keypoints, branches=config.decoders, form=config.aggregation
        )
        initialise(self)

    def forward(self, pictures: Tensor) -> BranchOutputs:
        """Map normalised pictures ``[N, 3, H, W]`` to the heatmaps of every decoder and their ensemble."""
        levels = self.encoder(pictures)
        finals = [branch(levels) for branch in self.branches]
        ensemble = self.aggregate(levels[-1], finals)
        return BranchOutputs(shared=(), branches=tuple((heatmaps,) for heatmaps in finals), ensemble=ensemble)

    def deployed(self, branch: int = 0) -> MobilePose:
        """Copy a decoder out with the encoder, in eval mode; gives the branch's results bit for bit."""
        return _copied(MobilePose(self.config), self.parts(branch))

    def parts(self, branch: int) -> nn.ModuleDict:
        """Give what a branch ships as, not copied, by the names it has in the plain network."""
        return nn.ModuleDict({"encoder": self.encoder, "decoder": self.branches[branch]})


def _copied(network: Network, parts: nn.ModuleDict) -> Network:
    """Fill a network with copies of others' tensors, and put it into eval mode."""
    network.load_state_dict(parts.state_dict())
    return network.eval()
