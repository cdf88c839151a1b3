"""The perceptron's own backward pass against autograd, and against finite differences."""

import numpy as np
import pytest
import torch

from rlnet.config import MlpConfig
from rlnet.nets import Inputs, ParameterLayout, make_network
from rlnet.nets.numpy import perceptron, sparse_rows
from rlnet.nets.numpy.acting import forward
from rlnet.nets.numpy.perceptron import Perceptron
from rlnet.nets.numpy.sparse_rows import SparseRows
from rlnet.numerics.random_streams import Streams

STATES = np.random.default_rng(0).random((7, 70), np.float32)
STATES[:, 3:] *= np.random.default_rng(1).random((7, 67)) < 0.05  # mostly 0
INPUTS = {
    "features": Inputs(env="e", n_states=7, features=torch.from_numpy(STATES), size=None),
    "vector": Inputs(env="e", n_states=None, features=None, size=4),
    "index": Inputs(env="e", n_states=7, features=None, size=None),
}


def observations(kind: str, *shape: int) -> torch.Tensor:
    return torch.randint(7, shape) if kind in ("index", "features") else torch.randn(*shape, 4)


def two_roles(kind: str, members: int, hidden: list[int], activation: str) -> tuple[ParameterLayout, torch.Tensor]:
    given = "features" if kind == "features" else "one_hot"
    config = MlpConfig("mlp", hidden=hidden, activation=activation, input=given)
    split = 2 if hidden else 0
    networks = {
        "q": make_network(config, INPUTS[kind], 3),
        "v": make_network(config, INPUTS[kind], 4, split=split),
    }
    layout = ParameterLayout(networks)
    return layout, layout.init(Streams(range(members), "network")).requires_grad_()


@pytest.fixture(autouse=True)
def fixed_numbers():
    torch.manual_seed(0)


@pytest.mark.parametrize("lead", [(), (1,), (6,)])
@pytest.mark.parametrize("members", [1, 5])
@pytest.mark.parametrize("hidden", [[], [8], [8, 6], [9, 8, 6]])
@pytest.mark.parametrize("activation", ["relu", "tanh", "silu"])
@pytest.mark.parametrize("kind", ["vector", "index", "features"])
def test_outputs_and_gradients_are_those_of_autograd(monkeypatch, kind, activation, hidden, members, lead):
    """Two forward passes of one network before one backward pass, and a second network beside it, in parts of 2."""
    layout, theta = two_roles(kind, members, hidden, activation)
    monkeypatch.setattr(perceptron, "CHUNK", 2 * 4 * max(lead or (1,)) * 3 * max(hidden or [3]))
    here, there = observations(kind, *lead, members, 3), observations(kind, *lead, members, 3)
    scale = torch.randn(*lead, members, 3, 3)
    found = []
    for plain in (False, True):
        params = layout.unpack(theta)
        q, v = (dict(params[role]) if plain else params[role] for role in ("q", "v"))
        first, second = layout.networks["q"].apply(q, here), layout.networks["q"].apply(q, there)
        with torch.no_grad():  # as a target network does, between a forward pass and its backward pass
            layout.networks["q"].apply(q, there + 1 if kind == "vector" else there)
        loss = (scale * first * second).sum() + layout.networks["v"].apply(v, here).square().sum()
        found.append((first, second, *torch.autograd.grad(loss, theta)))
    for ours, autograds in zip(*found, strict=True):
        torch.testing.assert_close(ours, autograds)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("hidden", [(), (5,), (4, 5)])
@pytest.mark.parametrize("indexed", [False, True])
def test_gradients_are_the_slopes_of_finite_differences(indexed, hidden, outputs):
    net = Perceptron((3, *hidden, outputs), "tanh", indexed)
    size = sum(layer[0].size for layer in net.layers(torch.zeros(1, 1000).numpy()))
    flat = torch.randn(2, size, dtype=torch.float64, requires_grad=True)
    obs = torch.randint(3, (6, 2, 4)) if indexed else torch.randn(6, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    scale = torch.randn(6, 2, 4, outputs, dtype=torch.float64)
    inputs = [flat] if indexed else [flat, obs]
    gradients = torch.autograd.grad((scale * net(flat, obs)).sum(), inputs)
    for x, gradient in zip(inputs, gradients, strict=True):
        for k in range(x.numel()):
            step = torch.zeros(x.numel(), dtype=torch.float64)
            step[k] = 1e-6
            step = step.view_as(x)
            moved = [(flat + s * step, obs) if x is flat else (flat, obs + s * step) for s in (1, -1)]
            up, down = ((scale * net(*arguments)).sum().item() for arguments in moved)
            assert gradient.flatten()[k].item() == pytest.approx((up - down) / 2e-6, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("hidden", [(), (8, 6)])
@pytest.mark.parametrize(("members", "envs", "several"), [(3, 9, False), (1, 9, False), (1, 9, True), (1, 1, False)])
def test_features_that_are_mostly_0_are_looked_up(monkeypatch, members, envs, several, hidden):
    """With the outputs, gradients and actions' scores of a product with all of their numbers."""
    obs, found = torch.randint(7, (2, members, envs)), []
    for most in (sparse_rows.SPARSE, 10**9):
        monkeypatch.setattr(sparse_rows, "SPARSE", most)
        net = Perceptron((70, *hidden, 4), "tanh", False, STATES, several)
        assert (net.sparse is None) == (most == 10**9)
        flat = torch.randn(members, net.places[-1][1], generator=torch.Generator().manual_seed(0), requires_grad=True)
        out = net(flat, obs)
        (grad,) = torch.autograd.grad(out.square().sum(), flat)
        scores = forward(net, flat.detach().numpy())(obs[0].numpy())
        found.append((out.detach(), grad, torch.from_numpy(scores)))
    for sparse, whole in zip(*found, strict=True):
        torch.testing.assert_close(sparse, whole)
    torch.testing.assert_close(found[0][2], found[0][0][0])


@pytest.mark.parametrize(("width", "ones", "sparse"), [(80, 8, True), (80, 9, False), (40, 1, False)])
def test_features_are_looked_up_where_that_is_faster(width, ones, sparse):
    features = np.zeros((3, width), np.float32)
    features[:, :ones] = 1
    assert (SparseRows.of(features) is not None) == sparse


def test_values_that_a_backward_pass_needs_are_no_others():
    """Results do not depend on what was computed in between, and a second backward pass is refused."""
    layout, theta = two_roles("vector", 2, [8, 6], "tanh")
    q, obs = layout.unpack(theta)["q"], observations("vector", 2, 9)
    out = layout.networks["q"].apply(q, obs)
    kept = out.detach().clone()
    for _ in range(3):
        other = layout.networks["q"].apply(q, torch.randn_like(obs))
        torch.autograd.grad(other.sum(), theta)
        layout.networks["q"].apply(q, torch.randn_like(obs))  # never goes back
    loss = out.square().sum()
    (grad,) = torch.autograd.grad(loss, theta, retain_graph=True)
    plain = layout.networks["q"].apply(dict(q), obs)
    torch.testing.assert_close(out, kept, rtol=0, atol=0)
    torch.testing.assert_close(grad, torch.autograd.grad(plain.square().sum(), theta)[0])
    with pytest.raises(RuntimeError, match="backward pass of this forward pass has run already"):
        torch.autograd.grad(loss, theta)


def test_parameters_first_seen_without_gradient_carry_one_later():
    layout, theta = two_roles("vector", 2, [8], "silu")
    q, obs = layout.unpack(theta)["q"], observations("vector", 2, 9)
    with torch.no_grad():
        layout.networks["q"].apply(q, obs)
    (grad,) = torch.autograd.grad(layout.networks["q"].apply(q, obs).sum(), theta)
    assert (grad[:, : theta.shape[1] // 4] != 0).any()


def test_memory_is_given_back_and_not_hoarded():
    net = Perceptron((4, 8, 2), "tanh", indexed=False)
    flat = torch.randn(1, net.places[-1][1], requires_grad=True)
    for rows in (10, 20, 50, 1000, 30, 30, 30):
        torch.autograd.grad(net(flat, observations("vector", 1, rows)).sum(), flat)
        assert len(net._free) <= perceptron.SHAPES
        assert {len(free) for free in net._free.values()} == {1}
    assert (1, 30, np.dtype(np.float32), True) in net._free
    assert (1, 10, np.dtype(np.float32), True) not in net._free
