"""Convolutional networks against torch.nn modules with the same parameters, member by member."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from support import make_run, trained, update
from torch import nn

from rlnet.config import CnnConfig, ConfigError
from rlnet.nets import Inputs, make_network
from rlnet.nets.cnn import Layer, convolve, planes
from rlnet.numerics.observation_rows import Part, RowLayout
from rlnet.numerics.random_streams import Streams


def module(network, params, m, layers, flat, hidden, outputs):
    """The same function as torch.nn modules, with the parameters of member m."""
    body, channels = [], layers[0][0]
    for j, (_, out, kernel, stride, padding) in enumerate(layers):
        conv = nn.Conv2d(channels, out, kernel, stride, padding)
        conv.load_state_dict({k: params[f"image0_{j}_{k}"][m] for k in ("weight", "bias")})
        body, channels = [*body, conv, nn.ReLU()], out
    first, last = nn.Linear(flat, hidden), nn.Linear(hidden, outputs)
    for k, layer in enumerate((first, last)):
        layer.load_state_dict({"weight": params[f"weight{k}"][m].T, "bias": params[f"bias{k}"][m]})
    return nn.Sequential(*body, nn.Flatten()), nn.Sequential(first, nn.ReLU(), last)


@pytest.mark.parametrize("lead", [(), (3,)])
@pytest.mark.parametrize(("shape", "body"), [((4, 84, 84), "nature"), ((7, 5, 3), "small"), ((40, 40), "small")])
def test_a_network_is_that_of_torch_for_every_member(shape, body, lead):
    part = Part("['p']", shape, 255.0, in_bytes=True)
    layout, members, batch = RowLayout((part, Part("['n']", (2,)))), 2, 3
    inputs = Inputs("env=x", None, None, layout.numbers, layout=layout)
    network = make_network(CnnConfig(name="cnn", body=body), inputs, 4)
    params = network.init(Streams([5, 6], "network"))
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (*lead, members, batch, *shape), np.uint8)
    numbers = rng.normal(size=(*lead, members, batch, 2)).astype(np.float32)
    columns = pixels.reshape(-1, part.size), numbers.reshape(-1, 2)
    obs = torch.from_numpy(layout.pack(columns)).view(*lead, members, batch, -1)
    order, (c, h, w) = planes(shape)
    layers = [(c, 32, 8, 4, 0), (32, 64, 4, 2, 0), (64, 64, 3, 1, 0)]
    if body == "small":
        stride = 2 if min(h, w) > 16 else 1
        layers = [(c, 16, 3, stride, 1), (16, 32, 3, stride, 1)]
    hidden = 512 if body == "nature" else 128
    flat = params["weight0"].shape[1]
    out = network.apply(params, obs)
    assert out.shape == (*lead, members, batch, 4)
    for m in range(members):
        convolutions, head = module(network, params, m, layers, flat, hidden, 4)
        own = torch.from_numpy(pixels[..., m, :, *[slice(None)] * len(shape)]).reshape(-1, *shape).float() / 255
        own = own.permute(0, *(1 + k for k in order)).reshape(-1, c, h, w)
        seen = torch.cat((convolutions(own), torch.from_numpy(numbers[..., m, :, :]).reshape(-1, 2)), -1)
        torch.testing.assert_close(out[..., m, :, :].reshape(-1, 4), head(seen), rtol=1e-4, atol=1e-5)


def test_gradients_are_those_of_torch_and_values_are_the_same_without_them():
    """With gradients the channels of a pixel are neighbours in memory, without them they are not."""
    part, members = Part("", (2, 9, 7), 255.0, in_bytes=True), 2
    layout = RowLayout((part,))
    inputs = Inputs("env=x", None, None, layout.numbers, layout=layout)
    network = make_network(CnnConfig(name="cnn", body="small", hidden=[16]), inputs, 3)
    params = {name: own.requires_grad_() for name, own in network.init(Streams([5, 6], "network")).items()}
    obs = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (members, 4, part.size), np.uint8))
    with torch.no_grad():
        values = network.apply(params, obs)
    out = network.apply(params, obs)
    torch.testing.assert_close(out.detach(), values)
    out.square().sum().backward()
    for m in range(members):
        body, head = module(network, params, m, [(2, 16, 3, 1, 1), (16, 32, 3, 1, 1)], 32 * 63, 16, 3)
        expected = head(body(obs[m].view(4, 2, 9, 7).float() / 255))
        expected.square().sum().backward()
        for j, layer in enumerate(own for own in body if isinstance(own, nn.Conv2d)):
            torch.testing.assert_close(params[f"image0_{j}_weight"].grad[m], layer.weight.grad, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(params[f"image0_{j}_bias"].grad[m], layer.bias.grad, rtol=1e-4, atol=1e-5)


def test_grouped_convolutions_of_devices_are_those_of_each_member():
    layer, rng = Layer(5, 3, 2, 1), torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(s, generator=rng) for s in ((3, 4, 2, 9, 7), (3, 5, 2, 3, 3), (3, 5)))
    each = [torch.nn.functional.conv2d(*one, stride=2, padding=1) for one in zip(x, weight, bias, strict=True)]
    expected = torch.stack(each)
    torch.testing.assert_close(convolve(x, weight, bias, layer), expected)


@pytest.mark.parametrize(
    ("shape", "first", "expected"),
    [
        ((84, 84), None, (1, 84, 84)),
        ((210, 160, 3), None, (3, 210, 160)),
        ((4, 84, 84), None, (4, 84, 84)),
        ((8, 8, 111), None, (111, 8, 8)),
        ((6, 7, 2), None, (2, 6, 7)),
        ((3, 3, 3), None, (3, 3, 3)),
        ((2, 5, 7), None, (2, 5, 7)),
        ((8, 8, 3), True, (8, 8, 3)),
        ((4, 84, 80, 3), None, (12, 84, 80)),
        ((4, 3, 84, 80), True, (12, 84, 80)),
    ],
)
def test_where_the_channels_stand(shape, first, expected):
    order, form = planes(shape, first)
    assert form == expected
    image = np.arange(np.prod(shape)).reshape(shape)
    assert image.transpose(order).reshape(form).shape == expected


class Spot(gymnasium.Env):
    """One step: a bright pixel lies in the left or right half of an image, and a number says which side pays."""

    action_space = spaces.Discrete(2)
    observation_space = spaces.Dict({"picture": spaces.Box(0, 255, (6, 6, 1), np.uint8), "side": spaces.Discrete(2)})

    def _seen(self):
        picture, row, column = np.zeros((6, 6, 1), np.uint8), *self.np_random.integers(6, size=2)
        picture[row, column], side = 255, int(self.np_random.integers(2))
        self.pays = int(column >= 3) ^ side
        return {"picture": picture, "side": side}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._seen(), {}

    def step(self, action):
        pay = float(action == self.pays)
        return self._seen(), pay, True, False, {}


gymnasium.register("Spot-v0", Spot)


@pytest.mark.slow
def test_an_image_and_a_number_beside_it_are_both_seen():
    """The best return is 1; from the image alone, or the number alone, nobody gets more than 1/2."""
    own = ("env=gymnasium", "env.id=Spot-v0", "network=cnn", "network.hidden=[32]", "optimizer.learning_rate=0.003")
    run = trained(*own, "algo.envs=8", "algo=ppo", "steps=10000")
    rollout = update(run)
    assert rollout.obs.dtype == torch.uint8
    assert rollout.obs.shape[-1] == 36 + 8
    assert torch.cat([update(run).reward.flatten() for _ in range(8)]).mean() > 0.9


@pytest.mark.slow
def test_real_actions_beside_images():
    Spot.action_space, before = spaces.Box(-1, 1, (2,)), Spot.action_space
    Spot.step, stepping = (lambda self, action: (self._seen(), float(action.sum()), True, False, {})), Spot.step
    try:
        own = ("env=gymnasium", "env.id=Spot-v0", "network=cnn", "network.hidden=[8]", "algo.envs=2")
        run = make_run(*own, "algo=sac", "algo.learning_starts=32", "algo.batch=16", "seeds=2")
        for _ in range(40):
            update(run)
        assert run.updates > 0
        assert torch.isfinite(run.learner.theta).all()
    finally:
        Spot.action_space, Spot.step = before, stepping


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("env=cartpole", "network=cnn"), "network=cnn: the observations of env=cartpole have no image"),
        (("env=frozen_lake", "network=cnn"), "network=cnn: the observations of env=frozen_lake have no image"),
        (
            ("env=gymnasium", "env.id=Spot-v0", "network=cnn", "network.body=nature"),
            "network.body=nature: an image of 6×6",
        ),
        (
            ("env=gymnasium", "env.id=Spot-v0", "network=cnn", "network.body=deep"),
            "network.body=deep: allowed are auto",
        ),
        (
            ("env=gymnasium", "env.id=Spot-v0", "network=cnn", "network.channels=2"),
            "network.channels=2: allowed are auto",
        ),
        (
            ("env=gymnasium", "env.id=Spot-v0", "network=cnn", "network.hidden=[0]"),
            r"network.hidden=\[0\]: must be widths",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(overrides, said):
    with pytest.raises(ConfigError, match=f"^{said}"):
        make_run("algo=ppo", *overrides)
