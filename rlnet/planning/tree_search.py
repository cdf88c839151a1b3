"""Batched Monte Carlo tree search over a deterministic model: PUCT (AlphaZero) and Gumbel with sequential halving.

B trees grow side by side, one leaf of each per simulation, so that the network is evaluated once for all of them; of a
finite model whose states have all been evaluated before, each tree grows by itself in compiled code. Trees are
independent: a result depends on its own root, noise and network alone.

The sign of every edge comes from the model: −1 where the other player moves next.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import scipy  # its parts are loaded when they are first used

from rlnet.mdp.solvers.compiled.threading import in_parts
from rlnet.planning.dynamics import Dynamics, TableDynamics

CHUNK = 4096  # trees whose nodes are in memory at once

# States [B, ...] → preferences [B, A] of the prior policy (log π up to a constant), values [B] of the mover.
Evaluate = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Puct:
    """Search by PUCT (Silver et al. 2018): Q(a)/scale + c(n)·P(a)·√n/(1 + N(a)), c(n) = init + log((1 + n)/base + 1).

    Where noise ν is given, the prior of the root is (1 − noise)·P + noise·ν.
    """

    simulations: int
    init: float | np.ndarray = 1.25  # here and below: one number, or one for each tree
    scale: float | np.ndarray = 1.0  # the size of values
    noise: float | np.ndarray = 0.25
    base: float = 19_652.0


@dataclass(frozen=True)
class Gumbel:
    """Gumbel search (Danihelka et al. 2022): sequential halving over the `considered` actions of largest g + log π at
    the root, visits by the improved policy below. Noise is the g of the root; without, g = 0.

    Action values are rescaled to [0, 1] and weigh (visit_offset + max N)·value_weight, as in mctx.
    """

    simulations: int
    considered: int = 16
    visit_offset: float | np.ndarray = 50.0  # here and below: one number, or one for each tree
    value_weight: float | np.ndarray = 0.1


class Evaluated(NamedTuple):
    """Networks evaluated in every state of a finite model; S states."""

    priors: np.ndarray  # float32 [M, S, A], see `priors`
    values: np.ndarray  # float64 [M, S]
    table: np.ndarray  # int64 [B], the network of each tree: a row of these


class Found(NamedTuple):
    """Result of a search in B roots."""

    visits: np.ndarray  # int32 [B, A], of the root's actions
    value: np.ndarray  # float64 [B], mean return of the simulations
    policy: np.ndarray  # float64 [B, A]: visits/Σ visits of PUCT; of Gumbel the improved policy
    best: np.ndarray | None  # int64 [B], the action that Gumbel search chooses; None of PUCT


def search(
    dynamics: Dynamics,
    evaluate: Evaluate | Evaluated,
    root: np.ndarray,
    gamma: np.ndarray,
    method: Puct | Gumbel,
    noise: np.ndarray | None = None,
    threads: int = 1,
) -> Found:
    """Grow a tree from each root by `method.simulations` simulations.

    Args:
        dynamics: the model.
        evaluate: the network at states, or (of a `TableDynamics`) its numbers in all of them.
        root: [B, ...], states with at least one action.
        gamma: float64 [B], γ of each tree.
        method: PUCT or Gumbel, with their numbers.
        noise: float64 [B, A] at the roots, see `root_noise` and `gumbel_noise`; None: no noise.
        threads: that work on different trees.

    Raises:
        ValueError: a method without simulations, or a root without actions.
    """
    if method.simulations < 1:
        raise ValueError(f"simulations={method.simulations}: must be at least 1")
    count, most = len(root), dynamics.n_actions
    found = Found(
        np.zeros((count, most), np.int32),
        np.zeros(count),
        np.zeros((count, most)),
        np.zeros(count, np.int64) if isinstance(method, Gumbel) else None,
    )
    for start in range(0, count, CHUNK):
        own = slice(start, start + CHUNK)
        given = evaluate._replace(table=evaluate.table[own]) if isinstance(evaluate, Evaluated) else evaluate
        part = Found(*(None if x is None else x[own] for x in found))  # type: ignore[arg-type]  # best alone may be
        _search(dynamics, given, root[own], gamma[own], _part(method, own), _rows(noise, own), threads, part)
    return found


def _by_threads(call: Callable[[int, int], None], count: int, threads: int) -> None:
    """`call(lo, hi)` for parts of the trees."""
    if threads == 1:
        call(0, count)
    else:
        in_parts(call, count, threads)


def _part(method: Puct | Gumbel, own: slice) -> Puct | Gumbel:
    """The method of some of the trees."""
    arrays: dict[str, Any] = {name: x[own] for name, x in vars(method).items() if isinstance(x, np.ndarray)}
    return replace(method, **arrays) if arrays else method


def _rows(noise: np.ndarray | None, own: slice) -> np.ndarray | None:
    return None if noise is None else noise[own]


def _search(
    dynamics: Dynamics,
    evaluate: Evaluate | Evaluated,
    root: np.ndarray,
    gamma: np.ndarray,
    method: Puct | Gumbel,
    noise: np.ndarray | None,
    threads: int,
    found: Found,
) -> None:
    """`search` of one chunk, into `found`."""
    from rlnet.planning import kernels  # compiled when it is first needed

    legal = dynamics.available(root)
    if not legal.any(-1).all():
        raise ValueError(
            f"root {int((~legal.any(-1)).argmax())} has no available action, so there is nothing to search"
        )
    count, gamma = len(root), np.ascontiguousarray(gamma, dtype=np.float64)
    trees = _trees(count, method.simulations + 1, dynamics.n_actions)
    if isinstance(evaluate, Evaluated):
        first = evaluate.priors[evaluate.table, root], evaluate.values[evaluate.table, root]
    else:
        first = _evaluated(evaluate, root, legal)
    if noise is not None and isinstance(method, Puct):
        first = _mixed(first[0], noise, method.noise), first[1]
    numbers = _numbers(method, noise, count, dynamics.n_actions)
    _by_threads(lambda lo, hi: kernels.plant(trees, lo, hi, *first), count, threads)
    if isinstance(evaluate, Evaluated):
        assert isinstance(dynamics, TableDynamics)  # which alone has numbered states
        model = dynamics.pair, dynamics.successor, dynamics.reward, dynamics.sign
        more = method.simulations, root, evaluate.table, gamma, *model, evaluate.priors, evaluate.values
        _by_threads(lambda lo, hi: kernels.simulate(trees, numbers, lo, hi, *more), count, threads)
    else:
        _leaf_by_leaf(dynamics, evaluate, root, gamma, method.simulations, trees, numbers, threads)
    best = np.zeros(count, np.int64) if found.best is None else found.best
    into = found.visits, found.value, found.policy, best
    _by_threads(lambda lo, hi: kernels.read(trees, numbers, lo, hi, *into), count, threads)
    if found.best is None:
        found.policy[...] = found.visits / found.visits.sum(-1, keepdims=True)


def _leaf_by_leaf(dynamics, evaluate, root, gamma, simulations, trees, numbers, threads) -> None:  # type: ignore[no-untyped-def]
    """Grow trees, with one evaluation of the network for each simulation of all of them."""
    from rlnet.planning import kernels

    count, rows = len(root), np.arange(len(root))
    state = np.empty((count, simulations + 1, *root.shape[1:]), root.dtype)
    state[:, 0] = root
    node, action, into = (np.empty(count, np.int64) for _ in range(3))
    for _ in range(simulations):
        _by_threads(lambda lo, hi: kernels.select(trees, numbers, lo, hi, node, action), count, threads)
        moved = dynamics.step(state[rows, node], action)
        prior, value = _evaluated(evaluate, moved.state, dynamics.available(moved.state))
        edge = node, action, moved.reward, gamma * moved.sign, prior, value, into

        def extended(lo: int, hi: int, edge: tuple = edge) -> None:
            kernels.extend(trees, lo, hi, *edge)

        _by_threads(extended, count, threads)
        state[rows, into] = moved.state


def _trees(count: int, nodes: int, actions: int):  # type: ignore[no-untyped-def]
    """Allocate trees, uninitialised."""
    from rlnet.planning.kernels import Trees

    edges, shape = (count, nodes, actions), (count, nodes)
    return Trees(
        prior=np.empty(edges, np.float32),
        child=np.empty(edges, np.int32),
        visits=np.empty(edges, np.int32),
        total=np.empty(edges),
        value=np.empty(shape),
        seen=np.empty(shape, np.int32),
        parent=np.empty(shape, np.int32),
        action=np.empty(shape, np.int32),
        reward=np.empty(shape),
        discount=np.empty(shape),
        size=np.empty(count, np.int32),
    )


def _numbers(method: Puct | Gumbel, noise: np.ndarray | None, count: int, actions: int):  # type: ignore[no-untyped-def]
    """Parameters of the compiled selection for a method."""
    from rlnet.planning.kernels import Numbers

    nothing = np.zeros((0, actions))
    if isinstance(method, Puct):
        n = np.arange(method.simulations + 2, dtype=float)
        growth = np.log((n + method.base + 1) / method.base)
        own = _each(method.init, count), _each(method.scale, count)
        return Numbers(growth, *own, nothing, np.zeros((0, 1), np.int32), 0, np.zeros(0), np.zeros(0))
    gumbel = np.zeros((count, actions)) if noise is None else np.array(noise, dtype=np.float64, order="C")
    table = considered_visits(actions, method.simulations).copy()  # one type, for which kernels are compiled once
    weights = _each(method.visit_offset, count), _each(method.value_weight, count)
    return Numbers(np.zeros(0), np.zeros(0), np.zeros(0), gumbel, table, method.considered, *weights)


def _each(number: float | np.ndarray, count: int) -> np.ndarray:
    return np.broadcast_to(np.asarray(number, dtype=np.float64), (count,)).copy()


def _evaluated(evaluate: Evaluate, state: np.ndarray, legal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    preferences, value = evaluate(state)
    return priors(preferences, legal), np.ascontiguousarray(value, dtype=np.float64)


def priors(preferences: np.ndarray, legal: np.ndarray) -> np.ndarray:
    """Prior policies, float32 [..., A]: softmax of preferences [..., A] over the available actions, bool [..., A], and
    −1 for the others."""
    scores = np.where(legal, preferences, -np.inf)
    top = scores.max(-1, keepdims=True)
    weight = np.exp(scores - np.where(np.isfinite(top), top, 0.0))
    total = weight.sum(-1, keepdims=True)
    return np.where(legal, weight / np.where(total > 0, total, 1.0), -1.0).astype(np.float32)


def _mixed(prior: np.ndarray, noise: np.ndarray, share: float | np.ndarray) -> np.ndarray:
    """(1 − share)·P + share·ν where an action is available."""
    share = _each(share, len(prior))[:, None]
    return np.where(prior >= 0, (1 - share) * prior + share * noise, prior).astype(np.float32)


def root_noise(uniform: np.ndarray, legal: np.ndarray, concentration: np.ndarray | float) -> np.ndarray:
    """Dirichlet numbers over the available actions, from uniform numbers, by inverting Gamma distributions: [B, A].

    Args:
        uniform: float64 [B, A] in [0, 1).
        legal: bool [B, A].
        concentration: α > 0, broadcastable to [B, A].
    """
    gamma = np.where(legal, np.maximum(scipy.special.gammaincinv(concentration, uniform), 1e-300), 0.0)
    return gamma / gamma.sum(-1, keepdims=True)


def gumbel_noise(uniform: np.ndarray) -> np.ndarray:
    """Standard Gumbel numbers −log(−log u)."""
    return -np.log(-np.log(np.maximum(uniform, 1e-300)))


@cache
def considered_visits(actions: int, simulations: int) -> np.ndarray:
    """Sequential halving as a table, int32 [actions + 1, simulations]: of m actions considered, how many visits the one
    has that simulation i goes to (Danihelka et al. 2022, algorithm 2, as in mctx's `seq_halving`)."""
    table = np.array([_halving(m, simulations) for m in range(actions + 1)], np.int32)
    table.flags.writeable = False
    return table


def _halving(considered: int, simulations: int) -> list[int]:
    if considered <= 1:
        return list(range(simulations))
    rounds, visits, left = math.ceil(math.log2(considered)), [0] * considered, considered
    sequence: list[int] = []
    while len(sequence) < simulations:
        for _ in range(max(1, simulations // (rounds * left))):
            sequence += visits[:left]
            for i in range(left):
                visits[i] += 1
        left = max(2, left // 2)
    return sequence[:simulations]
