"""The simulation against the model that it samples, and what each member draws."""

import copy
import io
from functools import partial

import numpy as np
import pytest
import torch
from envs_chi_square import assert_samples, assert_starts

from rlnet.envs import GridworldConfig, Sampler, build_gridworld, build_random_walk, make, preset
from rlnet.envs import TabularSimulation as Simulation
from rlnet.mdp import FiniteMDP

# With tensors, as on a device; a test holds what runs in numpy to the same steps.
TabularSimulation = partial(Simulation, device="cpu")


def uneven_model():
    """States with different actions, rare outcomes, several starts, one successor with two rewards."""
    rows = [  # state, action, successor, probability, reward, terminated
        (0, 0, 1, 0.9, 0.0, False),
        (0, 0, 1, 0.08, 5.0, False),
        (0, 0, 2, 0.02, -1.0, True),
        (1, 1, 0, 0.5, 0.0, False),
        (1, 1, 2, 0.25, 1.0, False),
        (1, 1, 1, 0.25, 1.0, False),
        (1, 2, 3, 1.0, 2.0, True),
        (2, 0, 3, 0.3, 0.0, True),
        (2, 0, 0, 0.7, 0.0, False),
        (2, 1, 2, 1.0, 0.5, False),
        (2, 2, 1, 1.0, 0.25, False),
    ]
    start = [0.2, 0.1, 0.7, 0.0]
    return FiniteMDP.from_coo(*(np.array(c) for c in zip(*rows, strict=True)), n_states=4, n_actions=3, start=start)


MODELS = {
    "gridworld": lambda: build_gridworld(preset("gridworld", slip=0.3)),
    "random_walk": lambda: build_random_walk(preset("random_walk", jump=7)),
    "frozen_lake": lambda: make(preset("frozen_lake")).mdp,
    "sutton4x4": lambda: build_gridworld(preset("sutton4x4")),
    "uneven": uneven_model,
}


def random_actions(mdp, generator):
    """A function: states [M, N] → actions that are available there, uniformly."""
    order = torch.from_numpy(np.argsort(~mdp.available, axis=1, kind="stable"))
    count = torch.from_numpy(mdp.available.sum(axis=1))

    def act(state):
        u = torch.rand(state.shape, generator=generator, dtype=torch.float64)
        return order[state, (u * count[state]).long()]

    return act


def rollout(simulation, act, steps):
    """obs, action and the fields of the steps, each [T, M, N]."""
    obs, rows = simulation.state, []
    for _ in range(steps):
        action = act(obs)
        step = simulation.step(action)
        rows.append((obs, action, *step[:6]))
        obs = step.obs
    return [torch.stack(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("name", MODELS)
def test_samples_the_model(name):
    mdp = MODELS[name]()
    simulation = TabularSimulation(mdp, [0, 1], 1000, max_steps=12)
    simulation.reset()
    columns = rollout(simulation, random_actions(mdp, torch.Generator().manual_seed(0)), 100)
    obs, action, next_obs, reward, terminated, truncated, valid, after = (c.flatten(1).numpy() for c in columns)
    assert valid.all()
    assert_samples(mdp, obs, action, next_obs, reward, terminated)
    ended = terminated | truncated
    assert ended.any()
    assert (after[~ended] == next_obs[~ended]).all()
    assert_starts(mdp, after[ended])
    assert_starts(mdp, obs[0])


def test_one_wrong_probability_would_be_noticed():
    mdp = MODELS["gridworld"]()
    other = build_gridworld(preset("gridworld", slip=0.33))
    simulation = TabularSimulation(other, [0], 2000)
    simulation.reset()
    columns = rollout(simulation, random_actions(mdp, torch.Generator().manual_seed(0)), 100)
    obs, action, next_obs, reward, terminated, *_ = (c.numpy() for c in columns)
    with pytest.raises(AssertionError):
        assert_samples(mdp, obs, action, next_obs, reward, terminated)


def test_the_time_limit_truncates_and_never_terminates():
    mdp = build_gridworld(preset("sutton5x5"))
    simulation = TabularSimulation(mdp, [0, 1, 2], 5, max_steps=100)
    simulation.reset()
    columns = rollout(simulation, random_actions(mdp, torch.Generator().manual_seed(0)), 350)
    terminated, truncated = columns[4], columns[5]
    assert not terminated.any()
    assert truncated.all(dim=2).all(dim=1).nonzero().flatten().tolist() == [99, 199, 299]
    assert truncated.sum() == 3 * 3 * 5


def test_terminated_wins_over_truncated_and_restarts_the_clock():
    mdp = build_gridworld(GridworldConfig(name="corridor", gamma=0.9, map="S.G"))
    simulation = TabularSimulation(mdp, [0], 2, max_steps=2)
    simulation.reset()
    left, right = 3, 1
    first = simulation.step(torch.tensor([[right, left]]))
    assert not (first.terminated | first.truncated).any()
    second = simulation.step(torch.tensor([[right, right]]))
    assert second.terminated.tolist() == [[True, False]]
    assert second.truncated.tolist() == [[False, True]]
    assert second.next_obs.tolist() == [[2, 1]]  # the true successors, not the new episodes
    assert second.obs.tolist() == [[0, 0]]
    assert second.reward.tolist() == [[1, 0]]
    third = simulation.step(torch.tensor([[right, right]]))
    assert not (third.terminated | third.truncated).any()


def test_no_limit_no_truncation():
    mdp = build_gridworld(preset("sutton5x5"))
    simulation = TabularSimulation(mdp, [0], 3)
    simulation.reset()
    assert not rollout(simulation, random_actions(mdp, torch.Generator().manual_seed(0)), 300)[5].any()


@pytest.mark.parametrize(("seeds", "envs"), [([3, 4], 5), ([3], 1)])
@pytest.mark.parametrize("max_steps", [None, 7])
@pytest.mark.parametrize("name", MODELS)
def test_arrays_and_tensors_take_the_same_steps(name, max_steps, seeds, envs):
    """Also where environments are held or reset one by one, on from a saved state, and where there is only one."""
    mdp, rng = MODELS[name](), np.random.default_rng(0)
    pair = [Simulation(mdp, seeds, envs, max_steps=max_steps, device=device) for device in (None, "cpu")]
    act = random_actions(mdp, torch.Generator().manual_seed(0))
    obs = pair[0].reset()
    np.testing.assert_array_equal(obs, pair[1].reset().numpy())
    for t in range(200):
        action, some = act(torch.from_numpy(obs.copy())).numpy(), rng.random((len(seeds), envs)) < 0.2
        hold = some if t % 3 == 0 else None
        ours = pair[0].step(action, hold)
        theirs = pair[1].step(torch.from_numpy(action), None if hold is None else torch.from_numpy(hold))
        for array, tensor in zip(ours, theirs, strict=True):
            assert (array is None) == (tensor is None)
            assert array is None or torch.equal(torch.from_numpy(array.copy()), tensor)
        obs = ours.obs
        if t % 10 == 9:
            obs = pair[0].reset(where=some)
            assert torch.equal(torch.from_numpy(obs.copy()), pair[1].reset(where=torch.from_numpy(some)))
        if t == 100:  # each goes on from the state of the other
            saved = [copy.deepcopy(simulation.state_dict()) for simulation in pair]
            pair[0].load_state_dict(saved[1])
            pair[1].load_state_dict(saved[0])


@pytest.mark.parametrize("name", ["gridworld", "uneven", "sutton4x4"])
def test_a_member_draws_what_it_would_draw_alone(name):
    mdp, steps, envs = MODELS[name](), 200, 3
    seeds = [5, 0, 17, 3, 4, 99, 1, 2]

    def run(members):
        simulation = TabularSimulation(mdp, [seeds[m] for m in members], envs, max_steps=9)
        simulation.reset()
        acts = [random_actions(mdp, torch.Generator().manual_seed(m)) for m in members]
        return rollout(simulation, lambda s: torch.cat([act(s[[i]]) for i, act in enumerate(acts)]), steps)

    together = run(range(8))
    for m in range(8):
        for whole, alone in zip(together, run([m]), strict=True):
            assert torch.equal(whole[:, [m]], alone)
    assert not torch.equal(together[0][:, 0], together[0][:, 1])


@pytest.mark.parametrize("name", ["gridworld", "uneven"])
def test_goes_on_exactly_from_a_saved_state(name):
    mdp = MODELS[name]()
    simulation = TabularSimulation(mdp, [0, 1], 4, max_steps=9)
    simulation.reset()
    rollout(simulation, random_actions(mdp, torch.Generator().manual_seed(0)), 37)  # in the middle of a block
    file = io.BytesIO()
    torch.save(simulation.state_dict(), file)
    file.seek(0)
    expected = rollout(simulation, random_actions(mdp, torch.Generator().manual_seed(1)), 100)
    other = TabularSimulation(mdp, [7, 8], 4, max_steps=9)
    other.load_state_dict(torch.load(file))
    found = rollout(other, random_actions(mdp, torch.Generator().manual_seed(1)), 100)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_reset_with_seeds_begins_the_streams_again():
    mdp = MODELS["uneven"]()

    def run(simulation):
        return rollout(simulation, random_actions(mdp, torch.Generator().manual_seed(0)), 80)

    first = TabularSimulation(mdp, [0, 1], 4)
    first.reset()
    run(first)
    first.reset([4, 5])
    fresh = TabularSimulation(mdp, [4, 5], 4)
    fresh.reset()
    assert all(torch.equal(a, b) for a, b in zip(run(first), run(fresh), strict=True))


def test_reset_somewhere_leaves_the_others_alone():
    mdp = build_gridworld(GridworldConfig(name="corridor", gamma=0.9, map="S...G"))
    simulation = TabularSimulation(mdp, [0], 2, max_steps=3)
    simulation.reset()
    simulation.step(torch.ones(1, 2, dtype=torch.int64))
    assert simulation.reset(where=torch.tensor([[True, False]])).tolist() == [[0, 1]]
    simulation.step(torch.ones(1, 2, dtype=torch.int64))
    step = simulation.step(torch.ones(1, 2, dtype=torch.int64))
    assert step.truncated.tolist() == [[False, True]]  # only the one that was not reset is three steps old


def test_no_uniform_number_leads_to_another_pair():
    size = 120  # 57,596 pairs: pair + u is rounded to pair + 1 for the largest u
    mdp = build_gridworld(preset("gridworld", map="\n".join(["S" + "." * size] * size + ["P" + "G" * size]), slip=0.5))
    sampler, in_numpy = Sampler(mdp, "cpu"), Sampler(mdp)
    pairs = torch.arange(mdp.n_pairs)
    ptr = torch.from_numpy(mdp.outcome_ptr.astype(np.int64))
    for u in (0.0, 0.5, np.nextafter(1.0, 0.0)):
        outcome = sampler.outcome(pairs, torch.full((mdp.n_pairs,), u, dtype=torch.float64))
        assert (outcome >= ptr[:-1]).all()
        assert (outcome < ptr[1:]).all()
        assert in_numpy.outcome(pairs.numpy(), np.full(mdp.n_pairs, u)).tolist() == outcome.tolist()
        if u == 0.0:
            assert torch.equal(outcome, ptr[:-1])
        elif u > 0.9:
            assert torch.equal(outcome, ptr[1:] - 1)
    for pair in range(mdp.n_pairs - 50, mdp.n_pairs):  # one by one, in numbers of Python
        state, action = int(np.searchsorted(mdp.pair_ptr, pair, "right") - 1), int(mdp.pair_action[pair])
        found = [in_numpy.outcome_of_one(state, action, u) for u in (0.0, np.nextafter(1.0, 0.0))]
        assert found == [ptr[pair], ptr[pair + 1] - 1]


@pytest.mark.parametrize("most", [1, 2, 3, 7, 8, 40])
def test_many_outcomes_are_those_of_a_search_of_all_keys(most):
    """Pairs of 1 to `most` outcomes, some of them of probability 0."""
    rng, outcomes = np.random.default_rng(most), {}
    for pair in range(60):
        p = rng.random(rng.integers(1, most + 1)) * (rng.random() < 0.9) + 1e-3
        outcomes[pair] = {0: [(x, int(rng.integers(60)), 0.0, False) for x in [*(p / p.sum()), 0.0]]}
    sampler = Sampler(FiniteMDP.from_outcomes(outcomes))
    pair, u = rng.integers(60, size=(3, 1000)), rng.random((3, 1000))
    found = sampler.outcome(pair, u)
    for some in range(0, 1000, 20):  # too few at a time for another way
        part = slice(some, some + 20)
        np.testing.assert_array_equal(found[:, part], sampler.outcome(pair[:, part], u[:, part]))


def test_an_action_that_is_not_available_is_refused():
    simulation = TabularSimulation(uneven_model(), [0], 2)
    simulation.reset()
    simulation.state = torch.tensor([[2, 0]])
    message = r"member 0, environment 1: action 2 is not available in state 0, allowed are \[0\]"
    with pytest.raises(ValueError, match=message):
        simulation.step(torch.tensor([[2, 2]]))


def test_refused():
    mdp = uneven_model()
    with pytest.raises(ValueError, match="start: state 3 is terminal"):
        TabularSimulation(mdp.with_start(np.array([0.5, 0, 0, 0.5])), [0], 1)
    with pytest.raises(ValueError, match="envs=0: must be at least 1"):
        TabularSimulation(mdp, [0], 0)
    with pytest.raises(ValueError, match="seeds=0: must be at least 1"):
        TabularSimulation(mdp, [], 1)
    with pytest.raises(ValueError, match="max_steps=0: must be at least 1"):
        TabularSimulation(mdp, [0], 1, max_steps=0)
    with pytest.raises(RuntimeError, match="step before the first reset"):
        TabularSimulation(mdp, [0], 1).step(torch.zeros(1, 1, dtype=torch.int64))


def test_who_writes_into_a_step_of_one_environment_does_not_change_the_model():
    simulation = Simulation(build_gridworld(preset("sutton5x5")), [0], 1)
    simulation.reset()
    step = simulation.step(np.array([[0]]))
    for array in (step.reward, step.next_obs, step.terminated):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 1
