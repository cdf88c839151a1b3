"""Guaranteed error bounds on learned values from their Bellman residual, without an exact solution.

For any V, any policy π and r = T_π V − V: V^π − V = Σ_t γ^t P_π^t r. With lo ≤ r ≤ hi on a set of states that is never
left, each later step adds between γ^t·lo and γ^t·hi (where an episode can end, lo ≤ 0 ≤ hi has to hold as well), so

    r + γ·lo / (1 − γ)  ≤  V^π − V  ≤  r + γ·hi / (1 − γ),

state by state: the bounds of MacQueen (1966) and Porteus (1971), never wider than the classic ‖r‖∞ / (1 − γ). With T in
place of T_π the right half bounds V* − V. The loss of the policy π that is greedy for V, where T_π V = TV, is then at
most γ·(hi − lo) / (1 − γ), never more than the classic 2γ‖r‖∞ / (1 − γ) (Williams & Baird 1993). For Q the same holds
with V(s) = max_a Q(s, a) or Σ_a π(a|s) Q(s, a), and Q* − Q = (TQ − Q) + γ P (V* − V). Where the entropy of the policy
counts (τ > 0), T takes the soft maximum, which is monotone and no expansion, so all of this holds.

At γ = 1 the number of steps takes the place of 1/(1 − γ). With w the expected steps of a policy that ends, proved by
w − P w > 0, its V^π − V lies between lo·w and hi·w (lo ≤ 0 ≤ hi). And V* ≤ u for any u with Tu ≤ u (u ≥ 0 in loops
without reward): u = V + c·w is tried with the smallest plausible c ≥ 0, and the inequality is checked. Where a policy
never ends, no c satisfies it, or τ > 0, the bound is infinite. Rounding errors are included.
"""

from dataclasses import dataclass

import numpy as np
import scipy  # its parts are loaded when they are first used

from rlnet.compare.judge import greedy_policy
from rlnet.mdp import FiniteMDP, ImproperPolicyError
from rlnet.mdp.model.graph import end_components
from rlnet.mdp.operators.bellman import EPS, ROW_SUM, system_of
from rlnet.mdp.operators.entropy import entropy, soft_maximum
from rlnet.mdp.operators.markov_chain import chain_of, chain_values, reachable

SLACK = 1e-12  # relative: covers the rounding of the few operations that make a bound of a residual


@dataclass(frozen=True)
class Certificates:
    """Bounds proved by the Bellman residual on the reachable states; inf where it proves nothing."""

    v: float | None  # ‖V − V^π‖∞, or ‖V − V*‖∞ against the optimum; None without V
    q: float | None  # ‖Q − Q^π‖∞, or ‖Q − Q*‖∞; None without Q
    loss: float  # max_s V*(s) − V^g(s), g the greedy policy: of Q, or by one step of lookahead on V
    regret: float  # J* − J(π) of the judged policy π


Known = tuple[
    np.ndarray, np.ndarray
]  # a policy, and the bound on its expected steps on the closed set: V has no part in it


class _Bounds:
    """Bounds on V* − v and V^π − v for some v [S], on a closed set of states."""

    def __init__(
        self, mdp: FiniteMDP, gamma: float, tau: float, v: np.ndarray, closed: np.ndarray, known: "list[Known]"
    ) -> None:
        self.mdp, self.gamma, self.tau, self.v = mdp, gamma, tau, np.where(mdp.terminal, 0.0, v)
        self.known = known
        self.system = system_of(mdp)
        self.live = closed & ~mdp.terminal
        self.pairs = self.live[mdp.pair_state]
        self.states, self.begin = self.system.first_pairs()
        self.q = self.system.q(self.v, gamma)  # [P], the backup of v
        scale = float(np.abs(self.q).max(initial=0.0)) + 8.0 * tau
        self.rounding = 2.0 * self.system.rounding(self.v) + (mdp.n_actions + 1) * EPS * scale
        self.leaks = bool(self.system.ends[self.pairs].any())

    def of_policy(self, policy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(low, high) [S] with low ≤ V^π − v ≤ high on the closed set."""
        weight = policy[self.mdp.pair_state, self.mdp.pair_action]
        r = self._minus_v(np.add.reduceat(weight * self.q, self.begin) + self.tau * entropy(policy)[self.states])
        if self.gamma < 1.0:
            return self._discounted(r, -1), self._discounted(r, 1)
        steps = self.steps(policy)
        if not np.isfinite(steps).all():
            return -steps, steps
        low, high = (max(self._extreme(r, sign), 0.0) * steps * (1 + SLACK) for sign in (-1, 1))
        return -low, high

    def of_optimum(self, greedy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(low, high) [S] with low ≤ V* − v ≤ high on the closed set; at γ = 1 by way of the policy `greedy` [S, A]."""
        if self.gamma < 1.0:
            top = np.maximum.reduceat(self.q, self.begin)
            r = self._minus_v(soft_maximum(self.q, self.begin, self.tau)[0] if self.tau > 0 else top)
            return self._discounted(r, -1), self._discounted(r, 1)
        steps = self.steps(greedy)
        low, _ = self.of_policy(greedy)
        known = np.isfinite(steps).all() and self.tau == 0.0
        return low, self._dominating(steps) if known else np.full(len(steps), np.inf)

    def steps(self, policy: np.ndarray) -> np.ndarray:
        """Upper bound on the expected steps to the end, [S]: 0 outside of the closed set, inf where unproved."""
        for asked, steps in self.known:
            if np.array_equal(asked, policy):
                return steps
        self.known.append((policy, self._steps(policy)))
        return self.known[-1][1]

    def _steps(self, policy: np.ndarray) -> np.ndarray:
        chain = chain_of(self.mdp, policy)
        if not reachable(chain.p, chain.ends | self.mdp.terminal, backward=True)[self.live].all():
            return np.full(self.mdp.n_states, np.inf)
        try:
            ones = np.ones(self.mdp.n_states)
            steps, bound, _ = chain_values(ones, chain, 1.0, self.live, self.system.rounding)
        except ImproperPolicyError:
            bound = np.inf
        return (steps + bound) * self.live if np.isfinite(bound) else np.full(self.mdp.n_states, np.inf)

    def _minus_v(self, values: np.ndarray) -> np.ndarray:
        """Values of the states that act [m], minus v, as [S]; 0 outside the closed set."""
        r = np.zeros(self.mdp.n_states)
        r[self.states] = values - self.v[self.states]
        return r * self.live

    def _extreme(self, r: np.ndarray, sign: int) -> float:
        """The largest of sign·r on the live states, with its rounding error."""
        return float((sign * r[self.live]).max(initial=-np.inf)) + self.rounding if self.live.any() else 0.0

    def _discounted(self, r: np.ndarray, sign: int) -> np.ndarray:
        """r + γ·extreme/(1 − γ), widened by rounding: an upper (sign 1) or lower (sign −1) bound [S]."""
        contraction = self.gamma * (1.0 + ROW_SUM * (self.system.terms + 6))
        if contraction >= 1.0:
            return np.full(len(r), sign * np.inf)
        extreme = self._extreme(r, sign)
        tail = contraction * (max(extreme, 0.0) if self.leaks else extreme) / (1.0 - contraction)
        return sign * (sign * r + tail + self.rounding + SLACK * (abs(tail) + np.abs(r))) * self.live

    def _dominating(self, steps: np.ndarray) -> np.ndarray:
        """c·steps [S], c ≥ 0 the least for which u = v + c·steps has Tu ≤ u, and u ≥ 0 in free loops; inf if none."""
        system, of = self.system, self.mdp.pair_state
        fall = (steps[of] - system.rows @ steps)[self.pairs]
        gain = (self.q - self.v[of])[self.pairs]
        # T_a u − u = gain − c·fall, pair by pair: it is at most 0 where c ≥ gain/fall, if the pair shortens the way.
        shorter = fall > 0
        ratio = (gain[shorter] + 4.0 * self.rounding) / fall[shorter]
        free, _ = end_components(of, system.transition, (system.reward == 0.0) & ~system.ends)
        idle = (free >= 0) & self.live
        to_zero = -self.v[idle] / np.maximum(steps[idle], 1.0)
        least = (1.0 + 1e-9) * max(float(ratio.max(initial=0.0)), float(to_zero.max(initial=0.0)))
        u = self.v + least * steps
        slack = system.rounding(u)
        after = np.maximum.reduceat(np.where(self.pairs, system.q(u, 1.0), -np.inf), self.begin)
        acts = self.live[self.states]
        holds = (after + slack <= u[self.states])[acts].all() and (u[idle] >= 0.0).all()
        return ((u - self.v) * (1 + SLACK) + slack) * self.live if holds else np.full(len(u), np.inf)


def certify(
    mdp: FiniteMDP,
    gamma: float,
    policy: np.ndarray,
    closed: np.ndarray,
    *,
    v: np.ndarray | None = None,
    q: np.ndarray | None = None,
    optimal: bool,
    temperature: float = 0.0,
) -> Certificates:
    """Bounds on the errors of v and q, on the loss of their greedy policy and on the regret of the judged one.

    Args:
        mdp: the model.
        gamma: γ in [0, 1].
        policy: π [S, A], the judged policy.
        closed: bool [S], states that no action leaves but by ending; the bounds hold there.
        v: [S] learned state values.
        q: [S, A] learned action values; at least one of the two is needed.
        optimal: whether v and q estimate V*, Q* or V^π, Q^π.
        temperature: τ of an entropy-regularised problem, whose greedy policy is softmax(q/τ).
    """
    if q is not None:
        values = state_values(mdp, q, None if optimal else policy, temperature)
    elif v is not None:
        values = v
    else:
        raise ValueError("certify needs v or q")
    known: list[Known] = []
    base = _Bounds(mdp, gamma, temperature, values, closed, known)
    greedy = greedy_policy(mdp, action_values(mdp, base.v, gamma) if q is None else q, temperature)
    optimum, judged = base.of_optimum(greedy), base.of_policy(policy)
    own = low, high = optimum if optimal else judged
    if v is not None and q is not None:
        other = _Bounds(mdp, gamma, temperature, v, closed, known)
        low, high = other.of_optimum(greedy) if optimal else other.of_policy(policy)
    best, at_greedy = optimum[1], base.of_policy(greedy)[0]
    bound_q = None if q is None else _q_bound(base, q, *own)
    return Certificates(
        v=max(_largest(-low, closed), _largest(high, closed)),
        q=bound_q,
        loss=_largest(best - at_greedy, closed),
        regret=max(float(mdp.start @ np.where(mdp.start > 0, best - judged[0], 0.0)), 0.0),
    )


def _largest(x: np.ndarray, where: np.ndarray) -> float:
    return float(x[where].max(initial=0.0))


def _q_bound(base: _Bounds, q: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """The largest |Q_exact − q| on the closed set, where low ≤ V_exact − base.v ≤ high."""
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        return np.inf
    mdp, rows = base.mdp, base.system.rows
    residual = base.q - q[mdp.pair_state, mdp.pair_action]
    ends = (-(residual + base.gamma * (rows @ low)), residual + base.gamma * (rows @ high))
    return max(_largest(end, base.pairs) for end in ends) * (1 + SLACK) + base.rounding


def state_values(mdp: FiniteMDP, q: np.ndarray, policy: np.ndarray | None, temperature: float = 0.0) -> np.ndarray:
    """State values of q [S, A], float [S]: Σ_a π·q + τ·H(π), or without a policy max_a q (τ > 0: τ·log Σ_a exp(q/τ)).

    0 in terminal states.
    """
    if policy is not None:
        best = (policy * np.where(mdp.available, q, 0.0)).sum(1) + temperature * entropy(policy)
    else:
        values = np.where(mdp.available | mdp.terminal[:, None], q, -np.inf)
        best = (
            values.max(1) if temperature == 0 else temperature * scipy.special.logsumexp(values / temperature, axis=1)
        )
    return np.where(mdp.terminal, 0.0, best)


def action_values(mdp: FiniteMDP, v: np.ndarray, gamma: float) -> np.ndarray:
    """Action values of v [S], q(s, a) = Σ p·(r + γ·v(s')): float [S, A], −inf where an action is not available."""
    q = np.full((mdp.n_states, mdp.n_actions), -np.inf)
    q[mdp.pair_state, mdp.pair_action] = system_of(mdp).q(v, gamma)
    return q
