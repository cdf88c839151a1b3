"""Convolutional networks of a whole population: convolutions for images, then a perceptron on all features."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from rlnet.config import CnnConfig, ConfigError, require
from rlnet.nets.network import Network, Params
from rlnet.numerics.observation_rows import Part, RowLayout
from rlnet.numerics.random_streams import Streams


class Layer(NamedTuple):
    """A convolution followed by ReLU."""

    channels: int
    kernel: int
    stride: int
    padding: int


# Mnih et al. 2015, Extended Data table 1: 84×84 pixels become 7×7×64, with 512 hidden units behind them.
NATURE, NATURE_HIDDEN, NATURE_SIDE = (Layer(32, 8, 4, 0), Layer(64, 4, 2, 0), Layer(64, 3, 1, 0)), (512,), 36
SMALL_HIDDEN = (128,)


def small(side: int) -> tuple[Layer, ...]:
    """The layers of the small body: two 3×3 convolutions, of stride 2 where an image has more than 16 pixels a side."""
    stride = 2 if side > 16 else 1
    return Layer(16, 3, stride, 1), Layer(32, 3, stride, 1)


def planes(shape: tuple[int, ...], first: bool | None = None) -> tuple[tuple[int, ...], tuple[int, int, int]]:
    """Channels-first form of an image: the permutation of its axes, and the shape (C, H, W).

    (H, W) has one channel. In a stack of frames (K, H, W, C) each channel of each frame is one.

    Args:
        shape: two to four axes.
        first: whether the channels of three axes come first; None: where the other two are equally long, else the
            shortest axis, the last of several.

    Raises:
        ValueError: another number of axes.
    """
    if len(shape) == 2:
        return (0, 1), (1, *shape)
    if len(shape) == 4:
        order, (count, height, width, channels) = (0, 3, 1, 2), shape
        if first:
            order, (count, channels, height, width) = (0, 1, 2, 3), shape
        return order, (count * channels, height, width)
    if len(shape) != 3:
        raise ValueError(f"an image of {len(shape)} axes")
    a, b, c = shape
    if first is None:
        first = b == c if (a == b) != (b == c) else a < min(b, c)
    return ((0, 1, 2), (a, b, c)) if first else ((2, 0, 1), (c, a, b))


class _Image(NamedTuple):
    """One image of an observation, and how it passes through its convolutions."""

    part: int  # its number among the parts
    shape: tuple[int, ...]
    order: tuple[int, ...]
    planes: tuple[int, int, int]
    layers: tuple[Layer, ...]
    width: int  # numbers that come out


def _image(k: int, part: Part, config: CnnConfig, env: str) -> _Image:
    first = {"auto": None, "first": True, "last": False}[config.channels]
    try:
        order, form = planes(part.shape, first)
    except ValueError as error:
        where = f" in part {part.path}" if part.path else ""
        raise ConfigError(f"network=cnn: {env} has {error}{where}, supported are 2 to 4; use mlp") from error
    side = min(form[1:])
    nature = config.body == "nature" or (config.body == "auto" and side >= NATURE_SIDE)
    allowed = f"an image of {form[1]}×{form[2]} pixels is too small, it needs {NATURE_SIDE}×{NATURE_SIDE}; use small"
    require(not nature or side >= NATURE_SIDE, "network.body", config.body, allowed)
    layers = NATURE if nature else small(side)
    height, width = form[1:]
    for layer in layers:
        height, width = ((n + 2 * layer.padding - layer.kernel) // layer.stride + 1 for n in (height, width))
    return _Image(k, part.shape, order, form, layers, layers[-1].channels * height * width)


def convolve(x: Tensor, weight: Tensor, bias: Tensor, layer: Layer) -> Tensor:
    """A convolution with weights per member: [M, B, C, H, W], [M, O, C, K, K], [M, O] → [M, B, O, H', W']."""
    members, count = x.shape[:2]
    grouped = x.transpose(0, 1).flatten(1, 2)  # [B, M·C, H, W]
    y = torch.nn.functional.conv2d(
        grouped, weight.flatten(0, 1), bias.flatten(), stride=layer.stride, padding=layer.padding, groups=members
    )
    return y.view(count, members, -1, *y.shape[2:]).transpose(0, 1)


def _shapes(image: _Image) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the parameters of the convolutions of an image."""
    channels = image.planes[0]
    for j, layer in enumerate(image.layers):
        name = f"image{image.part}_{j}"
        yield f"{name}_weight", (layer.channels, channels, layer.kernel, layer.kernel)
        yield f"{name}_bias", (layer.channels,)
        channels = layer.channels


def _features(params: Params, image: _Image, pixels: Tensor) -> Tensor:
    """Features of an image: pixels [M, B, size] → [M, B, width]."""
    lead = pixels.shape[:2]
    x = pixels.view(*lead, *image.shape).permute(0, 1, *(2 + k for k in image.order)).reshape(*lead, *image.planes)
    names = [f"image{image.part}_{j}" for j in range(len(image.layers))]
    layers = [(params[f"{name}_weight"], params[f"{name}_bias"]) for name in names]
    if lead[0] == 1:
        return _of_one(x[0], [(weight[0], bias[0]) for weight, bias in layers], image.layers).unsqueeze(0)
    if x.device.type == "cpu":
        each = zip(*(zip(weight, bias, strict=True) for weight, bias in layers), strict=True)
        return torch.stack([_of_one(one, own, image.layers) for one, own in zip(x, each, strict=True)])
    for layer, own in zip(image.layers, layers, strict=True):
        x = torch.relu(convolve(x, *own, layer))
    return x.flatten(2)


def _of_one(x: Tensor, params: Iterable[tuple[Tensor, Tensor]], layers: tuple[Layer, ...]) -> Tensor:
    """Features of the images of one member: [B, C, H, W] → [B, width], in the order of channels, rows and columns.

    On the CPU gradients are faster where the channels of a pixel are neighbours in memory; values alone are not.
    """
    beside = x.device.type == "cpu" and torch.is_grad_enabled()
    form = torch.channels_last if beside else torch.contiguous_format
    x = x.contiguous(memory_format=form)
    for (weight, bias), layer in zip(params, layers, strict=True):
        weight = weight.contiguous(memory_format=form)
        x = torch.nn.functional.conv2d(x, weight, bias, stride=layer.stride, padding=layer.padding).relu_()
    return x.flatten(1)


def cnn_network(
    config: CnnConfig, layout: RowLayout | None, size: int, env: str, head: Callable[[int, list[int]], Network]
) -> Network:
    """Build convolutions for every image, and a perceptron on their features and all other numbers of an observation.

    Args:
        config: its settings.
        layout: of observations.
        size: length of the input; numbers after those of the observation are an action.
        env: KEY=VALUE of the environment's setting, for messages.
        head: (width of its input, widths of hidden layers) → the perceptron.

    Raises:
        ConfigError: there is no image, or one that does not suit the network.
    """
    if layout is None or not layout.images:
        raise ConfigError(f"network=cnn: the observations of {env} have no image (a Box of two axes or more); use mlp")
    images = [_image(k, layout.parts[k], config, env) for k in layout.images]
    hidden = config.hidden
    if hidden is None:
        hidden = list(NATURE_HIDDEN if any(image.layers is NATURE for image in images) else SMALL_HIDDEN)
    others = size - sum(layout.parts[k].size for k in layout.images)
    top = head(others + sum(image.width for image in images), hidden)
    shapes = dict(shape for image in images for shape in _shapes(image))

    def init(streams: Streams) -> Params:
        params = {}
        for name, shape in shapes.items():  # uniform within 1/√fan_in, as torch.nn.Conv2d does
            _, channels, height, width = shapes[name.replace("bias", "weight")]
            bound = (channels * height * width) ** -0.5
            params[name] = ((2 * streams.uniform(*shape) - 1) * bound).float()
        return params | dict(top.init(streams))

    def apply(params: Params, obs: Tensor) -> Tensor:
        rows = obs.movedim(-3, 0)  # [M, ..., N, length]
        x = rows.reshape(len(rows), -1, rows.shape[-1])
        parts = layout.split(x)
        seen = [_features(params, image, parts[image.part]) for image in images]
        seen += [part for k, part in enumerate(parts) if k not in layout.images]
        if size > layout.numbers:
            seen.append(x[..., layout.numbers :])
        own = {name: params[name] for name in top.shapes}
        y = top.apply(own, seen[0] if len(seen) == 1 else torch.cat(seen, dim=-1))
        return y.view(*rows.shape[:-1], y.shape[-1]).movedim(0, -3)

    return Network(shapes | dict(top.shapes), init, apply)
