"""Tree search: against exact values, an independent recursion over the tree, and the reference's own definitions."""

import math

import numpy as np
import pytest
import torch

from rlnet.envs.boards.enumeration import enumerate_positions, game_of
from rlnet.envs.boards.rules import KInARow
from rlnet.mdp import FiniteMDP, evaluate, nash_conv, solve
from rlnet.numerics.random_streams import Streams
from rlnet.planning import (
    Evaluated,
    Gumbel,
    NotDeterministicError,
    Puct,
    RulesDynamics,
    TableDynamics,
    gumbel_noise,
    priors,
    root_noise,
    search,
)
from rlnet.planning.tree_search import considered_visits

TIC_TAC_TOE = KInARow(3, 3, 3, gravity=False)


@pytest.fixture(scope="module")
def tic_tac_toe():
    positions = enumerate_positions(TIC_TAC_TOE, 10_000)
    game = game_of(positions)
    return positions.cells, game, solve(game, 1.0)


def one_player() -> FiniteMDP:
    """A deterministic model with loops, γ and several lengths of ways to the end; 12 states in a ring, 3 actions."""
    rng = np.random.default_rng(5)
    state = np.repeat(np.arange(12), 3)
    action = np.tile(np.arange(3), 12)
    after = (state + rng.integers(1, 12, 36)) % 12
    ended = rng.random(36) < 0.15
    return FiniteMDP.from_coo(state, action, after, np.ones(36), rng.normal(size=36), ended, n_states=12, n_actions=3)


def known(game, preferences, values, roots):
    """The same network for all trees."""
    table = priors(np.asarray(preferences, np.float32), game.available)
    return Evaluated(table[None], np.asarray(values, float)[None], np.zeros(len(roots), np.int64))


def acting_states(game):
    return np.flatnonzero(~game.terminal)


def as_policy(game, states, weights):
    policy = game.available / np.maximum(game.available.sum(1, keepdims=True), 1)
    policy[states] = weights
    return policy


def searched_by_legal_actions(mdp, own, gamma, method):
    """A search in every state with `method(k)`, k the number of available actions; roots, visits, policies, choices."""
    parts = []
    for k in range(1, mdp.n_actions + 1):
        roots = np.flatnonzero(mdp.available.sum(1) == k)
        if len(roots):
            given = own._replace(table=np.zeros(len(roots), np.int64))
            found = search(TableDynamics(mdp), given, roots, np.full(len(roots), gamma), method(k))
            choice = found.visits.argmax(-1) if found.best is None else found.best
            parts.append((roots, found.visits, found.policy, choice))
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


# One simulation of Gumbel search for each action sees their exact values; more go on below by a uniform prior, which
# visits actions of equal value only by chance.
@pytest.mark.parametrize("method", [lambda k: Puct(100), lambda k: Gumbel(k, considered=k)], ids=["puct", "gumbel"])
def test_with_exact_values_it_plays_optimally_in_every_position(tic_tac_toe, method):
    _, game, exact = tic_tac_toe
    own = known(game, np.zeros((game.n_states, 9)), exact.v, ())
    roots, _, _, chosen = searched_by_legal_actions(game, own, 1.0, method)
    assert len(roots) == 4520
    assert (exact.policy[roots, chosen] > 0).all()
    best = np.zeros((game.n_states, 9))
    best[roots, chosen] = 1.0
    assert nash_conv(game, best) == 0.0


@pytest.mark.parametrize("method", [Puct(400, scale=5.0), Gumbel(3)], ids=["puct", "gumbel"])
def test_it_plans_for_one_player_at_a_discount(method):
    """With several lengths of ways to the end, and ways that never end; the mean of a search counts its detours."""
    mdp, gamma = one_player(), 0.9
    exact, roots = solve(mdp, gamma), np.arange(12)
    found = search(TableDynamics(mdp), known(mdp, np.zeros((12, 3)), exact.v, roots), roots, np.full(12, gamma), method)
    chosen = found.visits.argmax(-1) if found.best is None else found.best
    lost = exact.v - exact.q[roots, chosen]
    assert lost.max() < (1e-9 if found.best is not None else 0.2)


def replayed(step, evaluate_one, root, gamma, method, select):
    """The mean return and visits of the root by a plain recursion, written apart from the code under test.

    step: (state, action) → (state, reward, sign); evaluate_one: state → (prior {a: p}, value).
    """

    def node(state, depth=0):
        prior, value = evaluate_one(state)
        return {
            "depth": depth,
            "state": state,
            "prior": prior,
            "value": value,
            "n": 0,
            "edges": {a: [0, 0.0, None] for a in prior},
        }

    def visit(here):
        a = select(here)
        edge = here["edges"][a]
        state, reward, sign = step(here["state"], a)
        if sign == 0:
            ret = reward
        elif edge[2] is None:
            edge[2] = node(state, 1)
            ret = reward + gamma * sign * edge[2]["value"]
        else:
            ret = reward + gamma * sign * visit(edge[2])
        edge[0] += 1
        edge[1] += ret
        here["n"] += 1
        return ret

    top = node(root)
    for _ in range(method.simulations):
        visit(top)
    visits = {a: edge[0] for a, edge in top["edges"].items()}
    return visits, (top["value"] + sum(edge[1] for edge in top["edges"].values())) / (1 + top["n"])


def puct_rule(method):
    def select(here):
        total = sum(edge[1] for edge in here["edges"].values())
        n = here["n"] + 1
        mean = (here["value"] + total) / n
        c = method.init + math.log((1 + n + method.base) / method.base)

        def score(a):
            visits, ret, _ = here["edges"][a]
            q = ret / visits if visits else mean
            return q / method.scale + c * here["prior"][a] * math.sqrt(n) / (1 + visits)

        return max(sorted(here["edges"]), key=score)

    return select


def gumbel_rule(method, noise):
    """Danihelka et al. 2022: sequential halving at the root, below visits by the improved policy."""

    def sigma(here):
        edges, raw = here["edges"], here["value"]
        visited = {a: edge for a, edge in edges.items() if edge[0]}
        n = sum(edge[0] for edge in visited.values())
        mixed = raw
        if n:
            share = sum(here["prior"][a] for a in visited)
            mean = sum(here["prior"][a] / share * edge[1] / edge[0] for a, edge in visited.items())
            mixed = (raw + n * mean) / (1 + n)
        q = {a: edge[1] / edge[0] if edge[0] else mixed for a, edge in edges.items()}
        low, high = min(q.values()), max(q.values())
        most = max(edge[0] for edge in edges.values())
        factor = (method.visit_offset + most) * method.value_weight / max(high - low, 1e-8)
        return {a: factor * (x - low) for a, x in q.items()}

    def select(here):
        q, edges, prior = sigma(here), here["edges"], here["prior"]
        if here["depth"] == 0:
            m = min(method.considered, len(edges))
            due = considered_visits(9, method.simulations)[m, here["n"]]
            among = [a for a in sorted(edges) if edges[a][0] == due]
            return max(among, key=lambda a: noise[a] + math.log(prior[a]) + q[a])
        weight = {a: prior[a] * math.exp(q[a]) for a in edges}
        total = sum(weight.values())
        return max(sorted(edges), key=lambda a: weight[a] / total - edges[a][0] / (1 + here["n"]))

    return select


@pytest.mark.parametrize("method", [Puct(60, init=1.5, scale=2.0), Gumbel(60, considered=4)], ids=["puct", "gumbel"])
@pytest.mark.parametrize("kind", ["tables", "leaf by leaf"])
def test_visits_and_values_are_those_of_a_plain_recursion(tic_tac_toe, kind, method):
    """With random networks, in positions all over the game: the same visits, the same mean returns."""
    _, game, _ = tic_tac_toe
    rng = np.random.default_rng(0)
    preferences, values = rng.normal(size=(game.n_states, 9)).astype(np.float32), rng.uniform(-1, 1, game.n_states)
    roots = rng.choice(acting_states(game), 40, replace=False)
    own = known(game, preferences, values, roots)
    given = own if kind == "tables" else lambda state: (preferences[state], values[state])
    noise = rng.gumbel(size=(40, 9)) if isinstance(method, Gumbel) else None
    found = search(TableDynamics(game), given, roots, np.ones(40), method, noise)

    def step(state, action):
        i = game.pair_index[state, action]
        return int(game.next_state[i]), float(game.reward[i]), 0 if game.terminated[i] else int(game.sign[i])

    def evaluate_one(state):
        return {int(a): float(own.priors[0, state, a]) for a in np.flatnonzero(game.available[state])}, values[state]

    for b, root in enumerate(roots):
        rule = puct_rule(method) if noise is None else gumbel_rule(method, noise[b])
        visits, value = replayed(step, evaluate_one, int(root), 1.0, method, rule)
        assert {a: int(n) for a, n in enumerate(found.visits[b]) if game.available[root, a]} == visits
        assert found.value[b] == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("method", [Puct(50), Gumbel(50)], ids=["puct", "gumbel"])
def test_rules_and_tables_are_the_same_search(tic_tac_toe, method):
    cells, game, _ = tic_tac_toe
    rng = np.random.default_rng(1)
    weights, values = rng.normal(size=(9, 9)).astype(np.float32), rng.normal(size=9)
    preferences, value = (cells @ weights).astype(np.float32), np.tanh(cells @ values)
    roots = rng.choice(acting_states(game), 300, replace=False)
    noise = rng.gumbel(size=(300, 9)) if isinstance(method, Gumbel) else rng.dirichlet(np.ones(9), 300)
    a = search(TableDynamics(game), known(game, preferences, value, roots), roots, np.ones(300), method, noise)

    def network(state):
        return (state @ weights).astype(np.float32), np.tanh(state @ values)

    b = search(RulesDynamics(TIC_TAC_TOE), network, cells[roots], np.ones(300), method, noise, threads=2)
    assert np.array_equal(a.visits, b.visits)
    assert np.allclose(a.value, b.value, atol=1e-12)
    assert np.allclose(a.policy, b.policy, atol=1e-12)


@pytest.mark.parametrize("method", [Puct(33), Gumbel(33, considered=4)], ids=["puct", "gumbel"])
def test_visits_sum_to_the_simulations_and_none_is_of_a_masked_move(tic_tac_toe, method):
    _, game, _ = tic_tac_toe
    rng, roots = np.random.default_rng(2), acting_states(game)
    noise = rng.gumbel(size=(len(roots), 9)) if isinstance(method, Gumbel) else rng.dirichlet(np.ones(9), len(roots))
    preferences = 5 * rng.normal(size=(game.n_states, 9))
    own = known(game, preferences, rng.uniform(-1, 1, game.n_states), roots)
    found = search(TableDynamics(game), own, roots, np.ones(len(roots)), method, noise)
    assert (found.visits.sum(-1) == 33).all()
    assert (found.visits[~game.available[roots]] == 0).all()
    assert (found.policy[~game.available[roots]] == 0).all()
    assert np.allclose(found.policy.sum(-1), 1.0)
    if found.best is not None:
        assert game.available[roots, found.best].all()


def test_a_tree_depends_on_itself_alone(tic_tac_toe):
    _, game, _ = tic_tac_toe
    rng, roots = np.random.default_rng(3), acting_states(game)[:500]
    noise = rng.dirichlet(np.ones(9), 500)
    preferences, values = rng.normal(size=(2, game.n_states, 9)), rng.uniform(-1, 1, (2, game.n_states))
    member = rng.integers(2, size=500)
    both = Evaluated(priors(preferences, game.available), values, member)
    init = rng.uniform(1, 3, 500)
    many = search(TableDynamics(game), both, roots, np.ones(500), Puct(40, init=init), noise)
    for b in (0, 17, 499):
        own = both._replace(table=member[b : b + 1])
        method = Puct(40, init=float(init[b]))
        alone = search(TableDynamics(game), own, roots[b : b + 1], np.ones(1), method, noise[b : b + 1])
        assert np.array_equal(alone.visits[0], many.visits[b])
        assert alone.value[0] == many.value[b]


def test_chunks_are_seamless(tic_tac_toe, monkeypatch):
    _, game, exact = tic_tac_toe
    roots, method = acting_states(game)[:100], Gumbel(20)
    own = known(game, np.zeros((game.n_states, 9)), exact.v, roots)
    whole = search(TableDynamics(game), own, roots, np.ones(100), method)
    monkeypatch.setattr("rlnet.planning.tree_search.CHUNK", 7)
    parts = search(TableDynamics(game), own, roots, np.ones(100), method)
    for a, b in zip(whole, parts, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("kind", ["game", "one player"])
def test_gumbels_policy_is_an_improvement(tic_tac_toe, kind):
    """With the exact values of π, π' = softmax(log π + σ(completed Q)) is nowhere worse than π, exactly
    (Danihelka et al. 2022, section 4), and so is the action that sequential halving chooses, in expectation."""
    if kind == "game":
        _, mdp, _ = tic_tac_toe
        gamma = 1.0
    else:
        mdp, gamma = one_player(), 0.9
    rng, actions = np.random.default_rng(4), mdp.n_actions
    preferences = rng.normal(size=(mdp.n_states, actions))
    policy = np.maximum(priors(preferences, mdp.available), 0.0).astype(float)
    policy /= np.maximum(policy.sum(1, keepdims=True), 1e-300)
    old, roots = evaluate(mdp, policy, gamma), acting_states(mdp)
    with np.errstate(divide="ignore"):
        own = known(mdp, np.log(policy), old.v, roots)
    # One visit for every action: all action values are those of π.
    roots, _, better, _ = searched_by_legal_actions(mdp, own, gamma, lambda k: Gumbel(k, considered=k))
    q = np.where(mdp.available, old.q, 0.0)[roots]
    gain = (better * q).sum(-1) - (policy[roots] * q).sum(-1)
    assert gain.min() >= -1e-9
    assert gain.max() > 0.01
    if kind == "one player":  # where a step that is better everywhere makes the whole policy better
        new = evaluate(mdp, as_policy(mdp, roots, better), gamma)
        assert (new.v >= old.v - 1e-9).all()
    draws = gumbel_noise(rng.random((400, 40, actions)))
    few = rng.choice(roots, 40, replace=len(roots) < 40)
    for count in (2, 4):
        method = Gumbel(count, considered=count)
        total = np.zeros(40)
        for noise in draws:
            given = own._replace(table=np.zeros(40, np.int64))
            best = search(TableDynamics(mdp), given, few, np.full(40, gamma), method, noise).best
            total += np.where(mdp.available, old.q, 0.0)[few, best]
        behind = old.v[few] - total / len(draws)
        assert behind.max() < 4 * np.abs(q).max() / math.sqrt(len(draws))
        assert behind.mean() < -0.01


def test_sequential_halving_visits_what_the_reference_says():
    """`mctx.seq_halving.get_sequence_of_considered_visits`, worked out by hand from the paper's algorithm 2."""
    assert considered_visits(9, 16)[4].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert considered_visits(9, 5)[1].tolist() == [0, 1, 2, 3, 4]
    assert considered_visits(9, 8)[8].tolist() == [0] * 8


def test_noise_of_the_root_is_dirichlet():
    """Mean 1/k, variance (1/k)(1 − 1/k)/(kα + 1) over the available actions; nothing on the others."""
    legal = np.ones((20_000, 5), bool)
    legal[:, 3] = False
    uniform = Streams([1], "search").uniform(20_000, 5)[0].numpy()
    for alpha in (0.3, 2.0):
        noise = root_noise(uniform, legal, alpha)
        assert np.allclose(noise.sum(-1), 1.0)
        assert (noise[:, 3] == 0).all()
        assert np.allclose(noise[:, legal[0]].mean(0), 0.25, atol=0.01)
        assert np.allclose(noise[:, legal[0]].var(0), 0.25 * 0.75 / (4 * alpha + 1), rtol=0.05)


def test_bad_input_is_refused_in_one_sentence(tic_tac_toe):
    _, game, exact = tic_tac_toe
    own = known(game, np.zeros((game.n_states, 9)), exact.v, np.zeros(1, int))
    with pytest.raises(ValueError, match="simulations=0: must be at least 1"):
        search(TableDynamics(game), own, np.zeros(1, int), np.ones(1), Puct(0))
    coin = FiniteMDP.from_coo([0, 0], [0, 0], [0, 0], [0.5, 0.5], [1.0, 0.0], [True, True], n_states=1, n_actions=1)
    with pytest.raises(NotDeterministicError, match="state 0, action 0 has 2 outcomes"):
        TableDynamics(coin)
    full = np.ones((1, 9), np.int8)
    with pytest.raises(ValueError, match="root 0 has no available action"):
        search(
            RulesDynamics(TIC_TAC_TOE), lambda s: (np.zeros((len(s), 9)), np.zeros(len(s))), full, np.ones(1), Puct(2)
        )


def test_torch_is_not_needed_and_the_stream_is_known():
    assert torch.equal(Streams([3, 4], "search").uniform(2)[1:], Streams([4], "search").uniform(2))
