"""Population networks against torch.nn, member by member."""

import pytest
import torch
from torch import nn

from rlnet.config import ConfigError, LinearConfig, MlpConfig, TabularConfig
from rlnet.nets import Inputs, ParameterLayout, make_network, with_noise
from rlnet.numerics.random_streams import Streams

STATES = Inputs(env="e", n_states=7, features=torch.randn(7, 3, generator=torch.Generator().manual_seed(0)), size=None)
VECTORS = Inputs(env="env=e", n_states=None, features=None, size=4)
SEEDS = [3, 11]


def built(config, inputs, outputs=5):
    layout = ParameterLayout({"q": make_network(config, inputs, outputs)})
    theta = layout.init(Streams(SEEDS, "network"))
    return layout, theta, layout.unpack(theta)["q"]


def as_module(params, member: int, depth: int, activation: nn.Module) -> nn.Module:
    layers: list[nn.Module] = []
    for k in range(depth + 1):
        weight, bias = params[f"weight{k}"][member], params[f"bias{k}"][member]
        layer = nn.Linear(*weight.shape)
        layer.weight.data, layer.bias.data = weight.T.clone(), bias.clone()
        layers += [layer, activation] if k < depth else [layer]
    return nn.Sequential(*layers)


@pytest.mark.parametrize("lead", [(), (6,)])
@pytest.mark.parametrize(("kind", "inputs"), [("one_hot", STATES), ("features", STATES), ("one_hot", VECTORS)])
def test_mlp_computes_what_torch_computes(lead, kind, inputs):
    config = MlpConfig("mlp", hidden=[8, 6], activation="tanh", input=kind)
    layout, _, params = built(config, inputs)
    if inputs.n_states is None:
        obs = vector = torch.randn(*lead, 2, 9, 4)
    else:
        obs = torch.randint(7, (*lead, 2, 9))
        vector = nn.functional.one_hot(obs, 7).float() if kind == "one_hot" else inputs.features[obs]
    out = layout.networks["q"].apply(params, obs)
    assert out.shape == (*lead, 2, 9, 5)
    for m in range(2):
        torch.testing.assert_close(out[..., m, :, :], as_module(params, m, 2, nn.Tanh())(vector[..., m, :, :]))


def test_tabular_is_a_table_and_linear_is_linear_in_the_features():
    layout, theta, params = built(TabularConfig("tabular", 2.5), STATES)
    assert layout.size == 35
    assert (theta == 2.5).all()
    obs = torch.randint(7, (4, 2, 9))
    theta.copy_(torch.randn_like(theta))
    torch.testing.assert_close(layout.networks["q"].apply(params, obs)[:, 1], params["table"][1][obs[:, 1]])
    layout, theta, params = built(LinearConfig("linear"), STATES)
    theta.copy_(torch.randn_like(theta))
    expected = STATES.features[obs[:, 0]] @ params["weight"][0] + params["bias"][0]
    torch.testing.assert_close(layout.networks["q"].apply(params, obs)[:, 0], expected)


def test_members_start_from_their_own_seed_only():
    config = MlpConfig("mlp", hidden=[8], activation="relu", input="one_hot")
    layout, theta, _ = built(config, STATES)
    assert not torch.equal(theta[0], theta[1])
    assert torch.equal(layout.init(Streams([11], "network"))[0], theta[1])


def test_first_weights_lie_within_the_bound_of_their_fan_in():
    _, _, params = built(MlpConfig("mlp", hidden=[64], activation="relu", input="one_hot"), STATES)
    for name, bound in (("weight0", 7**-0.5), ("weight1", 64**-0.5), ("bias1", 64**-0.5)):
        assert params[name].abs().max() <= bound
        assert params[name].std() == pytest.approx(bound / 3**0.5, rel=0.25)


def test_networks_that_cannot_see_the_states_are_refused():
    blind = Inputs(env="env=lake", n_states=4, features=None, size=None)
    with pytest.raises(ConfigError, match="network=tabular: env=e has no countable states"):
        make_network(TabularConfig("tabular"), VECTORS, 2)
    with pytest.raises(ConfigError, match="network=linear: env=lake has no features"):
        make_network(LinearConfig("linear"), blind, 2)


def test_a_dueling_mlp_is_a_body_with_two_streams():
    network = make_network(MlpConfig("mlp", hidden=[8, 6]), VECTORS, 2 * 5 + 2, split=2, initial=0.7)
    layout = ParameterLayout({"q": network})
    params = layout.unpack(layout.init(Streams(SEEDS, "network")))["q"]
    obs = torch.randn(3, 2, 9, 4)
    out = network.apply(params, obs)
    for m in range(2):
        p = {name: tensor[m] for name, tensor in params.items()}
        body = torch.relu(torch.relu(obs[:, m] @ p["weight0"] + p["bias0"]) @ p["weight1"] + p["bias1"])
        value = body[..., :6] @ p["weight_value"] + p["bias_value"]
        advantage = body[..., 6:] @ p["weight2"] + p["bias2"]
        torch.testing.assert_close(out[:, m], torch.cat((value, advantage), -1))
    assert (params["bias_value"] > 0.7 - 6**-0.5).all()
    assert (params["bias2"].abs() < 6**-0.5).all()


def noisy_layout(config, sigma: float = 0.5) -> ParameterLayout:
    return ParameterLayout({"q": with_noise(make_network(config, STATES, 5), sigma)})


def test_noise_is_factorised_has_the_right_size_and_is_each_members_own():
    layout = noisy_layout(MlpConfig("mlp", hidden=[8], input="features"))
    streams = Streams(SEEDS, "noise")
    theta = torch.zeros(2, layout.size)
    theta[:, layout.size // 2 :] = 1.0  # μ = 0, σ = 1: the parameters are ε
    squares = torch.zeros(2)
    for _ in range(400):
        noise = layout.draw(theta, streams)["q"]
        squares += noise["weight1"].square().mean((1, 2)) / 400
    weight, bias = noise["weight0"], noise["bias0"]
    torch.testing.assert_close(weight[:, :, :1] * bias.unsqueeze(1), weight * bias[:, None, :1])
    # E ε² = (E|x|)² = 2/π for each of the 400 · 40 factorised products.
    assert squares.tolist() == pytest.approx([2 / torch.pi] * 2, rel=0.15)
    alone, own = Streams([SEEDS[1]], "noise"), Streams(SEEDS, "noise")
    assert torch.equal(layout.draw(theta[1:], alone)["q"]["weight0"][0], layout.draw(theta, own)["q"]["weight0"][1])


def test_noise_is_drawn_around_the_means_and_its_size_is_learned():
    layout = noisy_layout(TabularConfig("tabular", 2.5))
    theta = layout.init(Streams(SEEDS, "network"))
    assert layout.size == 2 * 35
    assert (layout.unpack(theta)["q"]["table"] == 2.5).all()
    assert (layout.deviations(theta) == 0.5).all()  # one input of a one-hot vector is active
    table = layout.draw(theta.requires_grad_(), Streams(SEEDS, "noise"))["q"]["table"]
    assert (table != 2.5).all()
    (grad,) = torch.autograd.grad(table.sum(), theta)
    torch.testing.assert_close(grad[:, :35], torch.ones(2, 35))
    torch.testing.assert_close(grad[:, 35:], ((table - 2.5) / 0.5).flatten(1))
    wide = noisy_layout(LinearConfig("linear"))
    assert wide.deviations(wide.init(Streams(SEEDS, "network"))).flatten().tolist() == pytest.approx(
        [0.5 / 3**0.5] * 40
    )


@pytest.mark.parametrize(
    "config", [TabularConfig("tabular", 3.0), LinearConfig("linear", 3.0), MlpConfig("mlp", 3.0, hidden=[8])]
)
def test_first_values_are_those_that_were_asked_for(config):
    layout, _, params = built(config, STATES)
    values = layout.networks["q"].apply(params, torch.arange(7).expand(2, -1))
    assert values.mean().item() == pytest.approx(3.0, abs=0.3)
