"""Returns and targets (λ-returns, GAE, V-trace, Retrace, ...) as pure functions on time-first tensors.

Ends of episodes enter the mathematics once, in `boundaries`, as numbers; no other function ever sees a flag.
All per-step arguments have the shape [T, M, N] (or any [T, ...]); index t stands for the transition
S_t, A_t → R_{t+1}, S_{t+1}. Hyperparameters are [M, 1] and broadcast over environments.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Boundaries(NamedTuple):
    """Discounts and traces of the steps of a rollout, by which targets bootstrap and stop at ends of episodes."""

    # [T, M, N] weight of the successor's value: γ, or 0 where the MDP ended; −γ where the other player moves next
    discount: Tensor
    trace: Tensor  # [T, M, N] weight of the sampled continuation against the bootstrap: λ, or 0 where none was sampled


def discounts(gamma: Tensor, terminated: Tensor, sign: Tensor | None = None) -> Tensor:
    """Discounts γ·(1 − terminated)·sign, for one-step targets, which need no trace: γ [M, 1] → [T, M, N].

    Args:
        sign: [T, M, N], of a zero-sum game in which values are those of the player who moves: −1 where the other player
            moves next, for whom the successor's value is, else +1; None: +1 everywhere.
    """
    discount = gamma * ~terminated
    return discount if sign is None else discount * sign


def boundaries(
    gamma: Tensor,
    lambda_: Tensor | float,
    terminated: Tensor,
    truncated: Tensor,
    valid: Tensor,
    sign: Tensor | None = None,
) -> Boundaries:
    """Ends of episodes: discount = γ·(1 − terminated)·sign, trace = λ·(1 − (terminated | truncated | segment end)).

    A terminated step has no successor value. A truncated one has (that of its final observation), but no sampled
    continuation: the next row belongs to another episode. The same holds for the last row of the segment, and for a
    row whose next row is not a transition.

    Args:
        gamma: [M, 1] discount factors.
        lambda_: [M, 1] trace decays, or one for all; 0 gives one-step targets, 1 Monte Carlo ones.
        terminated, truncated, valid: bool [T, M, N].
        sign: of a game, see `discounts`.
    """
    if len(terminated) == 1:
        continues = torch.zeros_like(terminated)
    else:
        continues = ~(terminated | truncated)
        continues[:-1] &= valid[1:]
        continues[-1] = False
    return Boundaries(discounts(gamma, terminated, sign), trace=lambda_ * continues)


def scan(constant: Tensor, factor: Tensor) -> Tensor:
    """Backward linear recursion x_t = b_t + a_t · x_{t+1} from x_T = 0.

    Args:
        constant: b, [T, ...].
        factor: a, [T, ...] of the same shape.

    Raises:
        ValueError: the shapes differ (broadcasting here would hide a lost axis).
    """
    if constant.shape != factor.shape:
        raise ValueError(f"constant {tuple(constant.shape)} and factor {tuple(factor.shape)} must have the same shape")
    out = torch.empty_like(constant)
    x = torch.zeros_like(constant[0])
    for t in range(constant.shape[0] - 1, -1, -1):
        x = torch.addcmul(constant[t], factor[t], x, out=out[t])
    return out


def td_target(reward: Tensor, discount: Tensor, next_value: Tensor) -> Tensor:
    """TD target R_{t+1} + γ_{t+1}·v(S_{t+1}), one step with bootstrap (S&B eq. 6.2).

    `next_value` decides the method: V(S') for TD(0), Q(S', A') for Sarsa, Σ_a π(a|S')·Q(S', a) for Expected Sarsa,
    max_a Q(S', a) for Q-learning.

    Raises:
        ValueError: the shapes differ.
    """
    if not reward.shape == discount.shape == next_value.shape:
        shapes = [tuple(x.shape) for x in (reward, discount, next_value)]
        raise ValueError(f"reward, discount and next_value must have one shape, not {shapes}")
    return reward + discount * next_value


def lambda_return(reward: Tensor, discount: Tensor, trace: Tensor, next_value: Tensor) -> Tensor:
    """λ-return G_t = R_{t+1} + γ_{t+1}·((1 − λ_{t+1})·v(S_{t+1}) + λ_{t+1}·G_{t+1}) (S&B eq. 12.20, state-based).

    With trace 0 it is `td_target`; with trace 1 the Monte Carlo return, bootstrapped where the sample was cut.

    Args:
        reward, discount, trace, next_value: [T, M, N]; `next_value[t]` is v(S_{t+1}), at a truncation the value of
            the final observation.
    """
    return scan(td_target(reward, discount * (1 - trace), next_value), discount * trace)


def monte_carlo_return(reward: Tensor, discount: Tensor, trace: Tensor) -> tuple[Tensor, Tensor]:
    """Monte Carlo return G_t = R_{t+1} + γ·G_{t+1} (S&B eq. 3.9), and the discount weight of what was not sampled.

    Args:
        reward, discount, trace: [T, M, N], from `boundaries` with λ = 1.

    Returns:
        ret: [T, M, N], the discounted sum of the rewards up to the end of the episode or of the sample.
        missing: [T, M, N], the discount weight of what follows the cut: 0 where the episode terminated. The true
            return is ret + missing·G(cut), so a row is a complete sample only where `missing` is (nearly) 0.
    """
    nothing = torch.zeros_like(reward)
    ret = lambda_return(reward, discount, trace, nothing)
    # A weight has no sign, whoever moves.
    missing = lambda_return(nothing, discount.abs(), trace, torch.ones_like(reward))
    return ret, missing


def n_step_return(reward: Tensor, discount: Tensor, trace: Tensor, next_value: Tensor, n: int) -> Tensor:
    """n-step return G_{t:t+n} = R_{t+1} + γ·R_{t+2} + … + γ^n·v(S_{t+n}) (S&B eq. 7.1), in log₂ n vectorised passes.

    Where the episode or the segment ends sooner, the return ends there: without bootstrap where it terminated, with
    the value of the last observation where it was cut.

    Args:
        reward, discount, trace, next_value: [T, M, N], from `boundaries` with λ = 1.
        n: at least 1; n ≥ T gives the λ-return with λ = 1.

    Raises:
        ValueError: n < 1.
    """
    if n < 1:
        raise ValueError(f"n={n}: must be at least 1")
    target = td_target(reward, discount, next_value)
    left, length = min(n, len(reward)) - 1, 1
    if left == 0:
        return target
    # Looking one step further is the map x_t = constant_t + factor_t·x_{t+1}; its powers are made by squaring.
    constant, factor = td_target(reward, discount * (1 - trace), next_value), discount * trace
    while left:
        if left & 1:
            target = constant + factor * _ahead(target, length)
        left >>= 1
        if left:
            constant, factor = constant + factor * _ahead(constant, length), factor * _ahead(factor, length)
            length *= 2
    return target


def _ahead(x: Tensor, steps: int) -> Tensor:
    """x_{t+steps} in row t, 0 beyond the end: [T, ...]."""
    return torch.cat((x[steps:], torch.zeros_like(x[:steps])))


def first_visits(key: Tensor) -> Tensor:
    """First-visit mask: rows that are the first of their episode with this state (or state and action; S&B 5.1).

    Args:
        key: int64 [T, M, N]; the rows of each environment are one episode (what follows its end does not matter).

    Returns:
        bool [T, M, N].
    """
    ordered, row = key.sort(dim=0, stable=True)  # equal keys stand together, in time order
    first = torch.ones_like(key, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return torch.zeros_like(first).scatter(0, row, first)


def gae(reward: Tensor, discount: Tensor, trace: Tensor, value: Tensor, next_value: Tensor) -> Tensor:
    """GAE, Â_t = δ_t + γλ·Â_{t+1}, δ_t = R_{t+1} + γ·v(S_{t+1}) − v(S_t) (Schulman et al. 2016, eq. 16).

    It equals `lambda_return` − v(S_t) where consecutive rows agree on v(S_{t+1}).

    Args:
        reward, discount, trace, value, next_value: [T, M, N].
    """
    return scan(td_target(reward, discount, next_value) - value, discount * trace)


def importance_sampled_return(
    reward: Tensor, discount: Tensor, trace: Tensor, next_value: Tensor, ratio: Tensor
) -> Tensor:
    """Per-decision importance sampled return G_t = ρ_t·(R_{t+1} + γ·G_{t+1}) (S&B section 5.9; Precup et al. 2000).

    Where the sample is cut it bootstraps from `next_value`, as `lambda_return` does.

    Args:
        ratio: ρ_t = π(A_t|S_t) / b(A_t|S_t), [T, M, N].
    """
    return scan(ratio * td_target(reward, discount * (1 - trace), next_value), ratio * discount * trace)


def product_of_ratios(ratio: Tensor, trace: Tensor) -> Tensor:
    """Importance sampling ratio ρ_{t:T−1} = Π_{k=t..T−1} ρ_k of the rest of the episode or sample (S&B eq. 5.3).

    Args:
        ratio: ρ_t = π(A_t|S_t) / b(A_t|S_t), [T, M, N].
        trace: [T, M, N], from `boundaries` with λ = 1.
    """
    return scan(ratio * (1 - trace), ratio * trace)


def v_trace(
    reward: Tensor,
    discount: Tensor,
    trace: Tensor,
    value: Tensor,
    next_value: Tensor,
    ratio: Tensor,
    rho_max: float = 1.0,
    c_max: float = 1.0,
) -> Tensor:
    """V-trace target v_t = V(S_t) + ρ̄_t·δ_t + γ·λ·c̄_t·(v_{t+1} − V(S_{t+1})) (Espeholt et al. 2018, eq. 1, remark 1).

    ρ̄ = min(ρ_max, ρ) decides the fixed point, c̄ = min(c_max, ρ) only the variance. On-policy it is `lambda_return`.

    Args:
        reward, discount, trace, value, next_value, ratio: [T, M, N].
    """
    delta = td_target(reward, discount, next_value) - value
    return value + scan(ratio.clamp(max=rho_max) * delta, discount * trace * ratio.clamp(max=c_max))


def corrected_q_return(
    reward: Tensor, discount: Tensor, trace: Tensor, q_taken: Tensor, next_value: Tensor, coefficient: Tensor
) -> Tensor:
    """Q(S_t, A_t) + Σ_{k≥t} (Π_{i=t+1..k} γ·λ·c_i)·δ_k, δ_k = R_{k+1} + γ·E_π Q(S_{k+1}, ·) − Q(S_k, A_k).

    The general operator of Munos et al. 2016 (eq. 3-4). What `coefficient` c is names the method; Q^π is the fixed
    point of all of them: `tree_backup`, `retrace`, `importance_sampling`, or 1 for Q(λ) (Harutyunyan et al. 2016). With
    E_π Q = max Q and c = 1 for greedy actions, else 0, it is Watkins's Q(λ).

    Args:
        reward, discount, trace: [T, M, N].
        q_taken: Q(S_t, A_t), [T, M, N].
        next_value: E_π Q(S_{t+1}, ·), [T, M, N].
        coefficient: c_t, of the action taken at t, [T, M, N].
    """
    delta = td_target(reward, discount, next_value) - q_taken
    following = torch.cat((coefficient[1:], torch.zeros_like(coefficient[:1])))
    return q_taken + scan(delta, discount * trace * following)


def tree_backup(target_probability: Tensor, behaviour_probability: Tensor) -> Tensor:
    """Trace coefficient of Tree Backup, c = π(A|S) (Precup et al. 2000; S&B section 7.5). Arguments [T, M, N]."""
    return target_probability


def retrace(target_probability: Tensor, behaviour_probability: Tensor) -> Tensor:
    """Trace coefficient of Retrace, c = min(1, π(A|S)/b(A|S)) (Munos et al. 2016)."""
    return (target_probability / behaviour_probability).clamp(max=1.0)


def importance_sampling(target_probability: Tensor, behaviour_probability: Tensor) -> Tensor:
    """Trace coefficient of importance sampling, c = ρ = π(A|S)/b(A|S) (Precup et al. 2000)."""
    return target_probability / behaviour_probability
