"""A small convolutional network, an example of a body for `network=module`."""

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
