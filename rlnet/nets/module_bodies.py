"""Bodies for `network=module`: a small convolutional network, and a residual one for boards."""

import torch
from torch import Tensor, nn


class ConvNet(nn.Module):
    """Two 3×3 convolutions with same padding, [B, C, H, W] → [B, channels, H, W].

    Args:
        inputs: C.
        channels: of both layers.
    """

    def __init__(self, inputs: int = 1, channels: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, picture: Tensor) -> Tensor:
        """See the class."""
        return torch.relu(self.second(torch.relu(self.first(picture))))


class ResidualNet(nn.Module):
    """A 3×3 convolution and residual blocks of two more, with same padding: [B, C, H, W] → [B, channels, H, W].

    Normalised over each position alone (GroupNorm), so that rows of a batch do not see each other (He et al. 2016;
    AlphaZero has BatchNorm in its place).

    Args:
        inputs: C, for board games 2: own stones and the other's.
        channels: of all layers.
        blocks: residual blocks.
    """

    def __init__(self, inputs: int = 2, channels: int = 32, blocks: int = 2) -> None:
        super().__init__()
        self.stem = nn.Conv2d(inputs, channels, 3, padding=1)
        self.blocks = nn.ModuleList(_Block(channels) for _ in range(blocks))

    def forward(self, board: Tensor) -> Tensor:
        """See the class."""
        x = torch.relu(self.stem(board))
        for block in self.blocks:
            x = block(x)
        return x


class _Block(nn.Module):
    """relu(x + conv(relu(norm(conv(x)))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.GroupNorm(1, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(torch.relu(self.norm(self.first(x)))))
