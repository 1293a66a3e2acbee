"""Light encoder-decoder: MobileNetV2's inverted residuals down to stride 32, a separable top-down decoder to stride 4.

The kind of network the supplement of OKDHP distils best (its gain grows as networks shrink). Widths, depths and the
decoder's inside are ours, made for phones: every convolution is followed by its norm (so each norm folds), depthwise
kernels are 3x3 or 5x5, and upsampling is bilinear by two.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from lspdmobile.networks.blocks import ConvNormAct, DepthwiseSeparable, doubled, initialise
from lspdmobile.networks.config import NetworkConfig

__all__ = ["Decoder", "Encoder", "InvertedResidual", "MobilePose", "MobilePoseConfig"]


@dataclass(frozen=True, kw_only=True)
class MobilePoseConfig(NetworkConfig):
    """Everything that shapes the light encoder-decoder as it ships.

    Attributes:
        stem: Channels at stride 2.
        channels: Channels at strides 4, 8, 16, 32.
        blocks: Inverted residuals at each of them.
        expansion: How many times wider the inside of an inverted residual is.
        features: Channels D of the decoder.
        kernel: Side of the decoder's depthwise kernels.
    """

    stem: int = 16
    channels: tuple[int, ...]
    blocks: tuple[int, ...]
    expansion: int = 4
    features: int = 64
    kernel: int = 5


class InvertedResidual(nn.Module):
    """1x1 to the expanded width, depthwise 3x3, linear 1x1; plus the input where its shape is kept (MobileNetV2)."""

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1, expansion: int = 4) -> None:
        super().__init__()
        middle = in_channels * expansion
        self.body = nn.Sequential(
            ConvNormAct(in_channels, middle),
            ConvNormAct(middle, middle, 3, stride=stride, groups=middle),
            ConvNormAct(middle, channels, act=False),
        )
        self.residual = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C_in, H, W]`` to ``[N, C, H/stride, W/stride]``."""
        y: Tensor = self.body(x)
        return x + y if self.residual else y


class Encoder(nn.Module):
    """Stem and four levels of inverted residuals."""

    def __init__(self, config: MobilePoseConfig) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, config.stem, 3, stride=2)
        widths = (config.stem, *config.channels)
        self.levels = nn.ModuleList(
            nn.Sequential(
                InvertedResidual(low, high, stride=2, expansion=config.expansion),
                *(InvertedResidual(high, high, expansion=config.expansion) for _ in range(count - 1)),
            )
            for low, high, count in zip(widths[:-1], widths[1:], config.blocks, strict=True)
        )

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Map a picture ``[N, 3, H, W]`` to features at strides 4, 8, 16, 32, each ``[N, C, H/stride, W/stride]``."""
        x = self.stem(pictures)
        found: list[Tensor] = []
        for level in self.levels:
            x = level(x)
            found.append(x)
        return found


class Decoder(nn.Module):
    """Top-down path: coarse features upsampled and added to 1x1 laterals, smoothed at every level; then K heatmaps."""

    def __init__(self, config: MobilePoseConfig) -> None:
        super().__init__()
        wide = config.features
        self.laterals = nn.ModuleList(ConvNormAct(channels, wide, act=False) for channels in config.channels)
        self.smooth = nn.ModuleList(DepthwiseSeparable(wide, wide, kernel=config.kernel) for _ in config.channels)
        self.heatmap = nn.Conv2d(wide, config.keypoints, 1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Map the encoder's features to heatmaps ``[N, K, H/4, W/4]``."""
        sides = [lateral(level) for lateral, level in zip(self.laterals, levels, strict=True)]
        smooth = list(self.smooth)
        top: Tensor = smooth.pop()(F.relu(sides.pop()))
        while sides:
            top = smooth.pop()(F.relu(sides.pop() + doubled(top)))
        heatmaps: Tensor = self.heatmap(top)
        return heatmaps


class MobilePose(nn.Module):
    """What ships: the encoder and one decoder."""

    def __init__(self, config: MobilePoseConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        initialise(self)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map normalised pictures ``[N, 3, H, W]`` to heatmaps ``[N, K, H/4, W/4]``."""
        heatmaps: Tensor = self.decoder(self.encoder(pictures))
        return heatmaps
