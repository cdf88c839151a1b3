"""Names and meanings of the scores, and which score bounds which."""

from collections.abc import Iterable

LOSSES = ("exact/regret", "exact/nash_conv")  # of a policy: alone, and in a game against the best opponents

# In the order in which they are shown; short enough for one line beside a value on 80 columns.
MEANINGS = {
    "exact/return": "J(π), expected return, not sampled",
    "exact/optimal_return": "J*, the best that any policy can expect",
    "exact/regret": "J* − J(π), what the policy loses",
    "exact/normalised_return": "0: as random actions, 1: optimal",
    "exact/nash_conv": "what best responses gain in both seats",
    "exact/nash_conv_search": "the same of the player who searches",
    "exact/regret_search": "what the player who searches loses",
    "exact/optimal_action_rate": "how often π acts optimally where it goes",
    "exact/optimal_action_rate_search": "the same of the player who searches",
    "exact/loss_max": "loss of the greedy policy, worst state",
    "exact/greedy_return": "J of the greedy policy",
    "exact/predicted_return": "what V promises at the start",
    "exact/v_rmse": "typical error of V where the policy goes",
    "exact/v_relative": "the same as a share of the size of V",
    "exact/v_rmse_uniform": "typical error of V, all states alike",
    "exact/v_max": "largest error of V in a reachable state",
    "exact/q_rmse": "typical error of Q where the policy goes",
    "exact/q_relative": "the same as a share of the size of Q",
    "exact/q_rmse_uniform": "typical error of Q, all states alike",
    "exact/q_max": "largest error of Q for a reachable pair",
    "exact/q_bias": "mean error of Q (> 0: over-estimated)",
    "exact/q_bias_own": "the same against its own policy's value",
    "exact/q_rmse_own": "typical error against its own policy's Q",
    "exact/bellman_residual": "largest violation of Bellman's equation",
    "exact/coverage": "share of reachable (s, a) pairs tried",
    "exact/reward": "E[R], expected reward of a completion",
    "exact/true_reward": "the same of the true reward, not the proxy",
    "exact/kl": "KL(π ‖ π_ref) of completions, in nats",
    "exact/frontier_gap": "reward still possible at the same KL",
    "exact/pass@1": "probability of a best completion",
    "exact/pass@8": "of at least one in eight",
    "exact/entropy": "entropy of completions, in nats",
    "exact/tokens": "expected length, its end included",
    "exact/constrained_return": "J(π) without the multiplier",
    "exact/constrained_optimal_return": "the best of it under the constraint",
    "exact/constraint_gap": "what π lacks of that (< 0: by more risk)",
    "exact/constraint_excess": "probability above the limit",
    "exact/constraint_multiplier": "λ*, what the event costs in J and J*",
    "exact/limited_return": "J(π) of episodes cut by the time limit",
    "exact/limited_optimal_return": "the best under the time limit",
    "exact/episode_return": "undiscounted, under the time limit",
    "exact/optimal_episode_return": "the best of those",
    "exact/v_bound": "what Bellman's residual guarantees for V",
    "exact/q_bound": "what Bellman's residual guarantees for Q",
    "exact/regret_bound": "what it guarantees for J* − J(π)",
    "exact/loss_bound": "what it guarantees for the greedy policy",
    "exact/error_bound": "how far the exact values may be off",
}
OF_EVENTS = {  # by the ends of their names: exact/crash_probability
    "_probability": "probability of {} in an episode of π",
    "_probability_optimal": "the same of the optimal policy, within a constraint that is set",
    "_probability_least": "the least that any policy attains",
}


def is_of_event(name: str) -> bool:
    """Whether a score is the probability of an event."""
    return name not in MEANINGS and name.startswith("exact/") and name.endswith(tuple(OF_EVENTS))


def meaning(name: str) -> str:
    """The meaning of a score; empty where it has none."""
    for end, words in OF_EVENTS.items():
        if is_of_event(name) and name.endswith(end):
            return words.format(name.removeprefix("exact/").removesuffix(end))
    return MEANINGS.get(name, "")


def in_order(scores: Iterable[str]) -> list[str]:
    """The names of known scores, in the order in which they are shown; those of events after the others."""
    names = list(scores)
    return [name for name in MEANINGS if name in names] + [n for n in names if n not in MEANINGS and meaning(n)]


# A true error and what the Bellman residual alone guarantees about it (`rlnet.compare.certificates`).
BOUNDS = {
    "exact/v_max": "exact/v_bound",
    "exact/q_max": "exact/q_bound",
    "exact/regret": "exact/regret_bound",
    "exact/loss_max": "exact/loss_bound",
}
# Shown as percentages.
SHARES = (
    "exact/optimal_action_rate",
    "exact/optimal_action_rate_search",
    "exact/coverage",
    "exact/v_relative",
    "exact/q_relative",
)
# Of a policy that was learned. A given one is not judged by them: what is learned there are its values.
OF_CONTROL = (
    "exact/regret",
    "exact/nash_conv",
    "exact/normalised_return",
    "exact/optimal_action_rate",
    "exact/loss_max",
    "exact/greedy_return",
    "exact/regret_bound",
    "exact/loss_bound",
)
