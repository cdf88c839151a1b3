"""Games of two players: the sign of the discount in every target, against the same game in the view of one player."""

import numpy as np
import pytest
import torch
from losses import GAMMA, hyper, learner_for, step_of, uniform_policy
from support import enumerated, random_mdp

from rlnet import algos
from rlnet.algos import returns
from rlnet.algos.context import PI, Role
from rlnet.data.rollout import Rollout, minibatches, rows_in_order
from rlnet.mdp import FiniteMDP

SHAPE = (9, 2, 30)  # [T, M, N]
GAMMAS = torch.tensor([[0.9], [1.0]])


def played(seed: int):
    """Rewards, values, flags and signs of random play; `side`: 1 where the first player moves, −1 the second."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda: torch.randn(SHAPE, generator=generator, dtype=torch.float64)  # noqa: E731
    coin = lambda p: torch.rand(SHAPE, generator=generator) < p  # noqa: E731
    reward, value, final, terminated = draw(), draw(), draw(), coin(0.1)
    truncated = coin(0.1) & ~terminated
    sign = torch.where(coin(0.7), -1.0, 1.0)
    side = torch.ones(SHAPE)
    for t in range(1, len(side)):
        goes_on = ~(terminated | truncated)[t - 1]
        side[t] = torch.where(goes_on, side[t - 1] * sign[t - 1], 1.0)
    # V(S_{t+1}): the next row's value where the episode goes on, else that of a final observation.
    next_value = torch.where(terminated | truncated, final, value.roll(-1, 0))
    next_value[-1] = final[-1]
    return reward, value, next_value, terminated, truncated, sign, side


TARGETS = {
    "td": lambda r, d, c, v, n, rho: returns.td_target(r, d, n),
    "lambda": lambda r, d, c, v, n, rho: returns.lambda_return(r, d, 0.7 * c, n),
    "monte carlo": lambda r, d, c, v, n, rho: returns.monte_carlo_return(r, d, c)[0],
    "n steps": lambda r, d, c, v, n, rho: returns.n_step_return(r, d, c, n, 4),
    "gae": lambda r, d, c, v, n, rho: returns.gae(r, d, 0.7 * c, v, n),
    "v-trace": lambda r, d, c, v, n, rho: returns.v_trace(r, d, 0.7 * c, v, n, rho),
    "retrace": lambda r, d, c, v, n, rho: returns.corrected_q_return(r, d, c, v, n, rho.clamp(max=1)),
    "importance sampling": lambda r, d, c, v, n, rho: returns.importance_sampled_return(r, d, c, n, rho),
}


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("seed", range(3))
def test_targets_are_those_of_the_first_player_seen_by_who_moves(name, seed):
    """G(game) = side · G(rewards and values of the first player, who alone is at stake)."""
    reward, value, next_value, terminated, truncated, sign, side = played(seed)
    valid = torch.ones_like(terminated)
    ratio = torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2
    plain, trace = (x.double() for x in returns.boundaries(GAMMAS, 1.0, terminated, truncated, valid))
    signed, same = (x.double() for x in returns.boundaries(GAMMAS, 1.0, terminated, truncated, valid, sign))
    assert torch.equal(trace, same)
    target = TARGETS[name]
    first = target(side * reward, plain, trace, side * value, side * sign * next_value, ratio)
    torch.testing.assert_close(target(reward, signed, trace, value, next_value, ratio), side * first)
    torch.testing.assert_close(returns.discounts(GAMMAS, terminated, sign).double(), signed)


def test_what_a_sample_lacks_is_a_weight_without_a_sign():
    *_, terminated, truncated, sign, _ = played(5)
    valid, nothing = torch.ones_like(terminated), torch.zeros(SHAPE)
    plain = returns.monte_carlo_return(nothing, *returns.boundaries(GAMMAS, 1.0, terminated, truncated, valid))
    signed = returns.monte_carlo_return(nothing, *returns.boundaries(GAMMAS, 1.0, terminated, truncated, valid, sign))
    assert torch.equal(plain[1], signed[1])
    assert (plain[1] > 0.5).any()


def random_game(seed: int) -> FiniteMDP:
    """A random model in which an outcome hands the move over as often as not."""
    mdp = random_mdp(seed)
    sign = np.where(np.random.default_rng(seed).random(mdp.n_outcomes) < 0.6, -1.0, 1.0)
    fields = {name: getattr(mdp, name) for name in FiniteMDP.__dataclass_fields__}
    return FiniteMDP(**fields | {"sign": sign})


def backed_up(game: FiniteMDP, next_value: np.ndarray) -> np.ndarray:
    """r + γ·Σ p·sign·v by loops: [S, A]."""
    q = np.zeros((game.n_states, game.n_actions))
    for pair in range(game.n_pairs):
        s, a = int(game.pair_state[pair]), int(game.pair_action[pair])
        for k in range(game.outcome_ptr[pair], game.outcome_ptr[pair + 1]):
            after = 0.0 if game.terminated[k] else game.sign[k] * GAMMA * next_value[game.next_state[k]]
            q[s, a] += game.probability[k] * (game.reward[k] + after)
    return q


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["q_learning", "dqn", "td0", "residual_gradient"])
def test_expected_steps_are_those_of_the_game(name, seed):
    """Δq = w·(T q − q) with the backup of the game, the successor's value counted by its sign."""
    game = random_game(seed)
    policy, weights = uniform_policy(game), np.linspace(0.5, 1.5, game.n_states)
    learner = learner_for(name, game, given=policy)
    of_actions = "q" in learner.algorithm.roles
    shape = (game.n_states, game.n_actions) if of_actions else (game.n_states,)
    values = np.random.default_rng(seed).normal(size=shape)
    learner.theta.copy_(torch.as_tensor(values).reshape(1, -1))
    if learner.target is not None:
        learner.target.copy_(learner.theta)
    change = step_of(learner, enumerated(game, policy, weights)).reshape(shape).numpy()
    if of_actions:
        best = np.where(game.terminal, 0.0, np.where(game.available, values, -np.inf).max(1))
        expected = weights[:, None] * policy * (backed_up(game, best) - values)
    else:
        error = backed_up(game, np.where(game.terminal, 0.0, values)) - values[:, None]
        expected = weights * (policy * error).sum(1)
        if name == "residual_gradient":  # −∇½δ² has a part for the successor, too
            for pair in range(game.n_pairs):
                s, a = int(game.pair_state[pair]), int(game.pair_action[pair])
                for k in range(game.outcome_ptr[pair], game.outcome_ptr[pair + 1]):
                    t, on = int(game.next_state[k]), not game.terminated[k]
                    after = on * game.sign[k] * GAMMA
                    delta = game.reward[k] + after * values[t] - values[s]
                    share = weights[s] * policy[s, a] * game.probability[k]
                    expected[s] += share * (delta - error[s, a])
                    expected[t] -= share * delta * after
    np.testing.assert_allclose(change, expected, atol=1e-5)


def discrete() -> list[str]:
    """Algorithms that learn of discrete actions, without texts, and without the entropy of policies."""
    found = {name: algos.load(name) for name in algos.names()}
    texts = ("group", "samples", "pairs")
    return [
        name
        for name, one in found.items()
        if one.acting.discrete
        and not set(one.options) & set(texts)
        and one.regularisation is None
        and one.temperature is None
    ]


def two_moves(reward: tuple[float, float], sign: float | None) -> Rollout:
    """State 0, action 0, then state 1, action 1, and the end; only the first row has a weight."""
    shape = (2, 1, 1)
    flags = torch.zeros(shape, dtype=torch.bool)
    weight = torch.tensor([1.0, 0.0]).view(shape)
    fields = {
        "obs": torch.tensor([0, 1]).view(shape), "action": torch.tensor([0, 1]).view(shape),
        "reward": torch.tensor(reward).view(shape), "next_obs": torch.tensor([1, 2]).view(shape),
        "terminated": torch.tensor([False, True]).view(shape), "truncated": flags, "valid": ~flags,
        "start_discount": torch.ones(shape), "weight": weight,
        "search_policy": torch.tensor([0.25, 0.75]).expand(*shape, 2), "search_value": torch.full(shape, 0.3),
    }  # fmt: skip
    if sign is not None:
        fields["sign"] = torch.tensor([sign, 1.0]).view(shape)
    return Rollout(**fields)


@pytest.mark.parametrize("name", discrete())
def test_every_algorithm_counts_what_the_other_player_gets_negatively(name):
    """A step from a state whose successor is worth x to the other player is the step for a successor worth −x."""
    mdp = random_mdp(0, states=3, actions=2, ends=True, masked=False)
    algorithm = algos.load(name)
    options = {key: choices[0] for key, choices in algorithm.options.items()}
    options |= {"n_step": 2} if "n_step" in options else {}
    options |= {"quantiles": 3} if "quantiles" in options else {}
    numbers = {key: min(max(low, 0.5), high) for key, (low, high) in algorithm.hyper.items()}
    numbers |= {"huber": 1.0} if "huber" in numbers else {}
    changes = []
    for worth, later, sign in ((0.8, 1.5, -1.0), (-0.8, -1.5, None)):
        learner = learner_for(name, mdp, given=uniform_policy(mdp), **options)
        batch = two_moves((0.25, later), sign)
        parts = learner.layout.unpack(learner.theta)
        with torch.no_grad():
            for role in algorithm.roles:
                if Role(role).kind in ("q", "v"):
                    parts[role]["table"][:, 1] = worth
        if learner.target is not None:
            learner.target.copy_(learner.theta)
        if learner.algorithm.update.prepare is not None:
            prepared = learner.algorithm.update.prepare(
                learner.context, learner.params, batch, {n: torch.full((1, 1), x) for n, x in numbers.items()}
                | {"gamma": torch.full((1, 1), GAMMA), "explore": torch.full((1, 1), 0.0)},
            )  # fmt: skip
            batch = (
                next(minibatches(batch.replace(extra=prepared), None, 1))
                if name == "ppo"
                else batch.replace(extra=prepared)
            )
        change = learner.layout.unpack(step_of(learner, batch, **{"explore": 0.0, **numbers}))
        changes.append({role: change[role]["table"][:, 0] for role in algorithm.roles})
    game, plain = changes
    moved = False
    for role in algorithm.roles:
        torch.testing.assert_close(game[role], plain[role], msg=f"{name}: {role}")
        moved |= bool(game[role].abs().max() > 1e-3)
    assert moved or PI in algorithm.roles


@pytest.mark.parametrize(("name", "kind"), [("td_lambda", "accumulating"), ("true_online_td_lambda", "dutch")])
def test_traces_reach_back_over_the_moves_of_both_players(name, kind):
    """An episode of four states, no state twice: in the view of the first player it is one of a single player."""
    shape, side = (4, 1, 1), torch.tensor([1.0, -1.0, -1.0, 1.0])
    sign = torch.tensor([-1.0, 1.0, -1.0, -1.0])
    mdp = random_mdp(0, states=5, actions=2, masked=False)
    flags = torch.tensor([False, False, False, True]).view(shape)
    reward, first = torch.tensor([0.3, -0.5, 0.2, 1.0]), torch.tensor([0.1, 0.7, -0.4, 0.6, 0.0])
    fields = {
        "obs": torch.arange(4).view(shape), "action": torch.zeros(shape, dtype=torch.int64),
        "next_obs": torch.arange(1, 5).view(shape), "terminated": flags, "truncated": flags & False,
        "valid": flags | True, "start_discount": torch.ones(shape), "weight": torch.ones(shape),
    }  # fmt: skip
    learned = []
    for seen in (torch.ones(4), side):  # of the player who moves, of the first player
        own = {"sign": sign.view(shape)} if seen[1] > 0 else {}
        options = {} if kind == "dutch" else {"traces": kind}
        learner = learner_for(name, mdp, given=uniform_policy(mdp), **options)
        assert learner.traces.kind == kind
        learner.theta.copy_((first * torch.cat((seen, torch.ones(1)))).view(1, -1))
        for row in rows_in_order(Rollout(**fields, reward=(reward * seen).view(shape), **own), 0):
            learner.step(row, hyper(lambda_=0.8), torch.full((1, 1), 0.5))
        learned.append(learner.theta[0, :4].clone())
    torch.testing.assert_close(learned[0], side * learned[1])
    assert (learned[0] - first[:4]).abs().min() > 0.01
