"""Population networks against torch.nn, member by member."""

import pytest
import torch
from torch import nn

from rlnet.config import ConfigError, LinearConfig, MlpConfig, TabularConfig
from rlnet.nets import Inputs, Layout, make_network
from rlnet.rng import Streams

STATES = Inputs(env="e", n_states=7, features=torch.randn(7, 3, generator=torch.Generator().manual_seed(0)), size=None)
VECTORS = Inputs(env="e", n_states=None, features=None, size=4)
SEEDS = [3, 11]


def built(config, inputs, outputs=5):
    layout = Layout({"q": make_network(config, inputs, outputs)})
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
    config = MlpConfig("mlp", [8, 6], "tanh", kind)
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
    config = MlpConfig("mlp", [8], "relu", "one_hot")
    layout, theta, _ = built(config, STATES)
    assert not torch.equal(theta[0], theta[1])
    assert torch.equal(layout.init(Streams([11], "network"))[0], theta[1])


def test_first_weights_lie_within_the_bound_of_their_fan_in():
    _, _, params = built(MlpConfig("mlp", [64], "relu", "one_hot"), STATES)
    for name, bound in (("weight0", 7**-0.5), ("weight1", 64**-0.5), ("bias1", 64**-0.5)):
        assert params[name].abs().max() <= bound
        assert params[name].std() == pytest.approx(bound / 3**0.5, rel=0.25)


def test_networks_that_cannot_see_the_states_are_refused():
    blind = Inputs(env="lake", n_states=4, features=None, size=None)
    with pytest.raises(ConfigError, match="network=tabular: env=e has no countable states"):
        make_network(TabularConfig("tabular"), VECTORS, 2)
    with pytest.raises(ConfigError, match="network=linear: env=lake has no features"):
        make_network(LinearConfig("linear"), blind, 2)
