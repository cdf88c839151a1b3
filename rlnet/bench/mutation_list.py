"""Planted bugs of `scripts/mutations.py`: edits of the source, tests that should fail, a run whose return may drop."""

from rlnet.bench.mutations import Mutation

RETURNS, PARTS, COLLECT = "rlnet/algos/returns.py", "rlnet/algos/loss_terms.py", "rlnet/data/collector.py"
EXPLORE, LEARNER, REPLAY, PPO = (
    "rlnet/policies/exploration.py",
    "rlnet/learning/learner.py",
    "rlnet/data/replay_buffer.py",
    "rlnet/algos/ppo.py",
)
SARSA, REINFORCE, DERIVATIVES = "rlnet/algos/sarsa.py", "rlnet/algos/reinforce.py", "rlnet/numerics/loss_derivatives.py"
MANUAL, OFF_POLICY_TESTS = "rlnet/learning/manual_gradients.py", "tests/algos/test_returns_off_policy.py"
ACTING = "rlnet/learning/acting.py"  # what explore.py says, again in numpy


def on(env: str, algo: str, steps: int, *more: str, network: str = "tabular") -> tuple[str, ...]:
    """Overrides of scripts/train.py."""
    return (f"env={env}", f"algo={algo}", f"steps={steps}", f"network={network}", *more)


GAMMA = on("sutton5x5", "q_learning", 60_000)  # goes on for ever, in episodes of 100 steps: γ and the cut matter
Q = on("gridworld", "q_learning", 60_000)
A2C = on("gridworld", "a2c", 40_000, network="mlp")
SARSA_RUN = on("cliff", "sarsa", 80_000, "schedule=constant")
DQN = on("gridworld", "dqn", 60_000, network="mlp")
PPO_RUN = on("random_walk", "ppo", 30_000, "gamma=0.99", network="mlp")
REINFORCE_RUN = on("random_walk", "reinforce", 60_000, "gamma=0.99", network="mlp")
BIAS = on("maximisation_bias", "double_q_learning", 20_000)

ALGOS, COLLECTED = "tests/algos/test_losses.py", "tests/data/test_collector.py"


def checked_by(file: str, *parts: str) -> tuple[str, ...]:
    """Arguments of pytest: the tests of a file whose names hold one of the parts."""
    return (file, "-k", " or ".join(parts))


STEP = checked_by(ALGOS, "expected_step_is_the_bellman_error")
TRUNCATION = checked_by(ALGOS, "truncation_is_not_termination and 10")
GRADIENT = checked_by(ALGOS, "step_is_the_exact_policy_gradient")
REPLAYED = checked_by(ALGOS, "replayed_targets")

GRPO = "rlnet/algos/grpo.py"
# At 0.3 the divergence weighs as much as the reward that the curve shows.
RLOO_RUN = on("tokens_nano", "rloo", 20_000, "algo.hyper.beta=0.3", "optimizer=adam", "optimizer.learning_rate=0.03")
ESTIMATORS = checked_by("tests/diagnosis/test_estimator.py", "rloo_is_the_gradient and tabular")
BEHIND = checked_by("tests/diagnosis/test_estimator.py", "behind_the_end")

GAME_TESTS, SELF_PLAY, BOARDS = "tests/algos/test_games.py", "tests/learning/test_games.py", "rlnet/envs/boards/"
# Games: what a learner earns by self-play says nothing of how well it plays.
THREE = ("env.rows=3", "env.columns=3", "env.k=3")
LINES = on("connect", "q_learning", 60_000, *THREE)
PLANES = on("tic_tac_toe", "dqn", 40_000, "env.max_states=10", network="mlp")  # without a model
SEARCHES = on(
    "connect", "alphazero", 20_000, *THREE, "network.input=features", "network.hidden=[64]", "algo.envs=128",
    "algo.rollout=9", "algo.capacity=10000", "algo.updates=16", "algo.hyper.root_share=0.5", "algo.hyper.noise=0.4",
    "algo.options.symmetries=true", network="mlp",
)  # fmt: skip
DYNAMICS, TREES = "rlnet/planning/dynamics.py", "rlnet/planning/kernels.py"
SEARCH, ALPHAZERO = "rlnet/planning/tree_search.py", "rlnet/algos/alphazero.py"
EXPLOITED = checked_by("tests/algos/test_alphazero.py", "search_is_scored_exactly")
PUCT = checked_by("tests/planning/test_tree_search.py", "plain_recursion and puct and tables")
OUTCOMES = checked_by("tests/algos/test_alphazero.py", "every_row_gets_the_outcome")
CONSTRAINT, CONSTRAINT_TESTS = "rlnet/learning/lagrange_multipliers.py", "tests/learning/test_lagrange_multipliers.py"

MUTATIONS = (
    Mutation(
        "truncation taken for termination",
        ((PARTS, '_bootstrapped(batch.reward, hyper["gamma"], batch.terminated, next_value, *_sign_of(batch))',
          '_bootstrapped(batch.reward, hyper["gamma"], batch.terminated | batch.truncated, next_value, '
          '*_sign_of(batch))'),),
        TRUNCATION,
        GAMMA,
    ),
    Mutation(
        "bootstraps across the end of an episode",
        ((RETURNS, "discount = gamma * ~terminated", "discount = gamma.expand(terminated.shape)"),),
        STEP,
        Q,
    ),
    Mutation(
        "γ applied twice",
        ((RETURNS, "reward + discount * next_value\n", "reward + discount * discount * next_value\n"),),
        STEP,
        GAMMA,
    ),
    Mutation(
        "γ forgotten",
        ((RETURNS, "reward + discount * next_value\n", "reward + (discount > 0) * next_value\n"),),
        STEP,
        GAMMA,
    ),
    Mutation(
        "the next episode leaks into the λ-return at a truncation",
        ((RETURNS, "continues = ~(terminated | truncated)", "continues = ~terminated"),),
        checked_by("tests/algos/test_returns.py", "lambda_return_is_the_weighted", "ends_of_lambda"),
        on("sutton5x5", "a2c", 40_000, network="mlp"),
    ),
    Mutation(
        "λ dropped from the advantages",
        ((RETURNS, "return scan(td_target(reward, discount, next_value) - value, discount * trace)",
          "return scan(td_target(reward, discount, next_value) - value, discount * (trace > 0))"),),
        checked_by("tests/algos/test_returns_off_policy.py", "reductions"),
        A2C,
    ),
    Mutation(
        "n-step: one reward too many before the bootstrap",
        ((RETURNS, "left, length = min(n, len(reward)) - 1, 1", "left, length = min(n, len(reward)), 1"),),
        checked_by(OFF_POLICY_TESTS, "n_step_is_the_bellman_operator", "n_step_returns_against"),
        on("random_walk", "n_step_td", 20_000),
    ),
    Mutation(
        "importance ratio upside down",
        ((RETURNS, "    return target_probability / behaviour_probability\n",
          "    return behaviour_probability / target_probability\n"),),
        checked_by("tests/algos/test_returns_off_policy.py", "corrections_apply_the_bellman_operator"),
        (),
    ),
    Mutation(
        "the values of all actions pulled towards the target, not that of the action taken",
        ((MANUAL, "slope[place] = -missed[-1].ravel()", "slope -= missed[-1].reshape(-1, 1)"),),
        STEP,
        Q,
    ),
    Mutation(
        "(N, 1) − (N,): every target meets every estimate",
        ((DERIVATIVES, "error = xp.where(weight > 0, target - estimate, 0.0)",
          "error = xp.where(weight > 0, (target[..., None] - estimate[..., None, :]).mean(-2), 0.0)"),),
        checked_by(ALGOS, "td0_step_is_the_bellman_error"),
        Q,
    ),
    Mutation(
        "the maximum over actions that are not available",
        (("rlnet/algos/q_learning.py", "largest(context.q(target_params, batch.next_state))",
          "largest(context.return_quantiles(target_params, batch.next_state).mean(-1))"),),
        STEP,
        on("maximisation_bias", "q_learning", 20_000),
    ),
    Mutation(
        "the step of a reset learned from",
        ((COLLECT, "        if keep == 0:\n            return valid",
          "        if keep == 0:\n            return valid | True"),),
        checked_by(COLLECTED, "without_lookback"),
        on("cartpole", "a2c", 60_000, "optimizer.learning_rate=0.001", "env.stepping=vector", network="mlp"),
    ),
    Mutation(
        "bootstraps from the first observation of the next episode",
        (("rlnet/envs/simulate.py", "step = Step(next_state, reward, terminated,",
          "step = Step(self.state, reward, terminated,"),),
        checked_by("tests/audit/test_audit.py", "own_simulators_agree"),
        GAMMA,
    ),
    Mutation(
        "the advantage of another member",
        ((PARTS, "gain = early * (advantage * log_prob", "gain = early * (advantage.roll(1, dims=1) * log_prob"),),
        checked_by(COLLECTED, "draws_what_it_draws_alone and reinforce"),
        A2C,
    ),
    Mutation(
        "the log-probability of another environment's action",
        ((PARTS, "log_prob, entropy = actions.log_prob(pi, batch.action)",
          "log_prob, entropy = actions.log_prob(pi, batch.action.roll(1, dims=-1))"),),
        GRADIENT,
        A2C,
    ),
    Mutation(
        "policy gradient with the wrong sign",
        ((PARTS, "return -total(gain, weight), {", "return total(gain, weight), {"),),
        GRADIENT,
        A2C,
    ),
    Mutation(
        "entropy punished instead of rewarded",
        ((PARTS, '(advantage * log_prob + bonus * entropy)', '(advantage * log_prob - bonus * entropy)'),),
        checked_by(ALGOS, "entropy_bonus"),
        A2C,
    ),
    Mutation(
        "the gradient of the policy flows into the baseline",
        ((REINFORCE, 'advantage = ret - hyper["baseline"] * (v.detach() + others)',
          'advantage = ret - hyper["baseline"] * (v + others)'),),
        checked_by(ALGOS, "coefficients_scale and reinforce"),
        REINFORCE_RUN,
    ),
    Mutation(
        "returns that the sample cut short learned from",
        ((PARTS, "weight = batch.weight * (missing <= COMPLETE)", "weight = batch.weight"),),
        checked_by(ALGOS, "complete_returns_only"),
        (*REINFORCE_RUN, "algo.rollout=40"),
    ),
    Mutation(
        "Sarsa with the previous action instead of the next one",
        ((SARSA, "batch.action.roll(-1, dims=0)", "batch.action.roll(1, dims=0)"),),
        checked_by(ALGOS, "sarsa_step_is_the_expected"),
        (*SARSA_RUN, "algo.envs=4", "algo.rollout=8"),  # in rollouts of one step both are the same row
    ),
    Mutation(
        "Sarsa with the best action instead of the next one",
        ((SARSA, "expected, take(next_q, batch.action.roll(-1, dims=0)))", "expected, next_q.amax(-1))"),),
        checked_by(ALGOS, "sarsa_step_is_the_expected"),
        SARSA_RUN,
    ),
    Mutation(
        "Expected Sarsa forgets ε in its expectation",
        (("rlnet/algos/expected_sarsa.py",
          "next_value = expectation(by_values(context, target_params, batch.next_state, hyper), next_q)",
          "next_value = next_q.amax(-1)"),),
        STEP,
        on("cliff", "expected_sarsa", 80_000, "schedule=constant"),
    ),
    Mutation(
        "ε and 1 − ε exchanged",
        ((EXPLORE, "return torch.lerp(greedy(q), available / available.sum(-1, keepdim=True), epsilon)",
          "return torch.lerp(greedy(q), available / available.sum(-1, keepdim=True), 1 - epsilon)"),
         (ACTING, "(1 - explore) * _greedy(scores, explore) + explore / len(scores)",
          "explore * _greedy(scores, explore) + (1 - explore) / len(scores)"),
         (ACTING, "best, other = max(scores), explore / len(scores)\n    share = (1 - explore) *",
          "best, other = max(scores), (1 - explore) / len(scores)\n    share = explore *")),
        checked_by("tests/policies/test_exploration.py", "epsilon_greedy_spreads"),
        Q,
    ),
    Mutation(
        "the target network never follows",
        ((LEARNER, "self.target.lerp_(self.theta, rate)", "self.target.lerp_(self.theta, 0 * rate)"),),
        checked_by("tests/data/test_replay_buffer.py", "the_target_network_follows"),
        DQN,
    ),
    Mutation(
        "no target network: bootstraps from the network that learns",
        (("rlnet/algos/dqn.py", "q(target_params, segment_end(batch))", "q(params, segment_end(batch))"),),
        REPLAYED,
        DQN,
    ),
    Mutation(
        "Double DQN chooses the action by the target network too",
        (("rlnet/algos/double_dqn.py", "best = context.q(params,", "best = context.q(target_params,"),),
        REPLAYED,
        on("gridworld", "double_dqn", 60_000, network="mlp"),
    ),
    Mutation(
        "Double Q-learning values the action by the network that chose it",
        (("rlnet/algos/double_q_learning.py", "context.q(target_params, batch.next_state, other))",
          "context.q(target_params, batch.next_state, role))"),),
        checked_by(ALGOS, "double_q_learning_values"),
        BIAS,
    ),
    Mutation(
        "replayed segments run over the seam of the ring",
        ((REPLAY, "(held - self.steps + 1)) + (self._added - held)", "(held - self.steps + 1))"),),
        checked_by("tests/data/test_replay_buffer.py", "segments_are_consecutive", "only_the_newest"),
        (*DQN, "algo.n_step=3", "algo.capacity=4000"),
    ),
    Mutation(
        "prioritised replay without importance weights",
        ((REPLAY, "torch.as_tensor(share**power).float()", "torch.ones_like(torch.as_tensor(share)).float()"),),
        checked_by("tests/data/test_replay_buffer.py", "importance_weights_make"),
        (*DQN, "algo.priority=0.6"),
    ),
    Mutation(
        "γ forgotten in the decay of the trace",
        (("rlnet/algos/sarsa_lambda.py", 'hyper["gamma"] * hyper["lambda_"]', 'hyper["lambda_"]'),),
        checked_by("tests/algos/test_eligibility_traces.py", "every_step_is_that_of_the_books_box and sarsa_lambda"),
        on("random_walk", "sarsa_lambda", 40_000, "gamma=0.9"),
    ),
    Mutation(
        "Watkins's trace goes on behind an exploratory action",
        (("rlnet/algos/watkins_q_lambda.py", 'hyper["gamma"] * hyper["lambda_"] * (value == q.amax(-1))',
          '(hyper["gamma"] * hyper["lambda_"]).expand_as(value)'),),
        checked_by("tests/algos/test_eligibility_traces.py", "every_step_is_that_of_the_books_box and watkins"),
        on("random_walk", "watkins_q_lambda", 40_000, "gamma=0.9"),
    ),
    Mutation(
        "PPO takes the larger of the two objectives",
        ((DERIVATIVES, "gain = xp.minimum(", "gain = xp.maximum("),),
        checked_by(ALGOS, "ppo_does_not_push"),
        PPO_RUN,
    ),
    Mutation(
        "PPO's ratio upside down",
        ((DERIVATIVES, "change = log_prob - old", "change = old - log_prob"),
         (DERIVATIVES, "return gain, free * (gain == free)", "return gain, -free * (gain == free)")),
        checked_by(ALGOS, "first_ppo_step"),
        PPO_RUN,
    ),
    Mutation(
        "advantages normalised over all members together",
        ((PPO, "share = weight / weight.sum((0, 2), keepdims=True)", "share = weight / weight.sum()"),
         (PPO, "centred = advantage - (share * advantage).sum((0, 2), keepdims=True)",
          "centred = advantage - (share * advantage).sum()"),
         (PPO, "(share * centred * centred).sum((0, 2), keepdims=True)", "(share * centred * centred).sum()")),
        checked_by(ALGOS, "ppo_normalises_the_advantages"),
        (*PPO_RUN, "algo.hyper.normalise=1"),
    ),
    Mutation(
        "one gradient clip for all members",
        ((LEARNER, "norm = gradient_norms(grad)", "norm = grad.norm().expand(len(grad), 1)"),),
        checked_by("tests/learning/test_learner.py", "clipping_is_per_member"),
        (*A2C, "optimizer.max_grad_norm=0.5"),
    ),
    Mutation(
        "log-probabilities of the token before",
        ((GRPO, "log_prob = taken(context, pi, batch", "log_prob = taken(context, pi.roll(1, 0), batch"),
         (GRPO, '"log_prob", log_prob.detach())', '"log_prob", taken(context, pi.detach(), batch.action))')),
        ESTIMATORS,
        RLOO_RUN,
    ),
    Mutation(
        "reward counted behind the end of a completion",
        ((GRPO, "ret = (batch.reward * valid).sum(0)", "ret = batch.reward.sum(0)"),),
        BEHIND,
        RLOO_RUN,
    ),
    Mutation(
        "the sign of the divergence",
        ((GRPO, 'ret = ret - hyper["beta"]', 'ret = ret + hyper["beta"]'),),
        ESTIMATORS,
        RLOO_RUN,
    ),
    Mutation(
        "advantages over the wrong group",
        ((GRPO, "own = ret.unflatten(-1, (-1, group))", "own = ret.roll(1, -1).unflatten(-1, (-1, group))"),),
        ESTIMATORS,
        RLOO_RUN,
    ),
    Mutation(
        "a baseline that includes the completion itself",
        ((GRPO, "centred = centred * (group / (group - 1))", "centred = centred * 1"),),
        ESTIMATORS,
        RLOO_RUN,
    ),
    Mutation(
        "temperature forgotten in the ratio",
        ((GRPO, '"log_prob", log_prob.detach())',
          '"log_prob", taken(context, (2 * pi.detach()).log_softmax(-1), batch.action))'),),
        ESTIMATORS,
        RLOO_RUN,
    ),
    Mutation(
        "the other player's value taken for one's own",
        ((RETURNS, "discount if sign is None else discount * sign", "discount"),),
        checked_by(GAME_TESTS, "targets_are_those", "expected_steps", "every_algorithm"),
        (),
        LINES,
    ),
    Mutation(
        "traces that do not change their sign with the player",
        ((LEARNER, "traces.turn(torch.where(weight > 0, batch.sign[0], 1.0))", "pass"),),
        checked_by(GAME_TESTS, "traces_reach_back"),
        (),
        on("connect", "watkins_q_lambda", 30_000, *THREE),
    ),
    Mutation(
        "the reward of the other seat",
        ((f"{BOARDS}simulation.py", "Step(final, reward.reshape(grid)", "Step(final, -reward.reshape(grid)"),),
        checked_by(SELF_PLAY, "a_game_without_a_model"),
        (),
        PLANES,
    ),
    Mutation(
        "a draw taken for a loss",
        ((f"{BOARDS}compiled/kernels.py", "1.0 if won else 0.0", "1.0 if won else (-1.0 if empty == 1 else 0.0)"),),
        checked_by("tests/envs/boards/test_rules.py", "moves_agree", "draw"),
        (),
        LINES,
    ),
    Mutation(
        "a game that goes on after its time limit",
        ((f"{BOARDS}simulation.py", "np.where(over[:, None], self._start, cells)",
          "np.where(ended[:, None], self._start, cells)"),),
        checked_by(SELF_PLAY, "a_game_without_a_model"),
        (),
        ("env.max_episode_steps=6", *PLANES),
    ),
    Mutation(
        "search: the value of the wrong player",
        ((DYNAMICS, "np.where(mdp.terminated[outcome], 0.0, sign[outcome])",
          "np.where(mdp.terminated[outcome], 0.0, abs(sign[outcome]))"),),
        EXPLOITED,
        (),
        SEARCHES,
    ),
    Mutation(
        "search: the sign of a leaf",
        ((TREES, "t.value[b, node] = value if discount != 0.0", "t.value[b, node] = -value if discount != 0.0"),),
        EXPLOITED,
        (),
        SEARCHES,
    ),
    Mutation(
        "search: the reward of the other seat",
        ((DYNAMICS, "np.ascontiguousarray(mdp.reward[outcome])", "np.ascontiguousarray(-mdp.reward[outcome])"),),
        EXPLOITED,
        (),
        SEARCHES,
    ),
    Mutation(
        "search: moves that are not legal",
        ((SEARCH, "scores = np.where(legal, preferences, -np.inf)", "scores = np.asarray(preferences, float)"),
         (SEARCH, "return np.where(legal, weight / np.where(total > 0, total, 1.0), -1.0).astype(np.float32)",
          "return (weight / np.where(total > 0, total, 1.0)).astype(np.float32)")),
        checked_by("tests/planning/test_tree_search.py", "none_is_of_a_masked_move"),
        (),
        SEARCHES,
    ),
    Mutation(  # the sign of a virtual loss would do the same, but one leaf of each tree at a time needs none
        "search: visits draw further visits",
        ((TREES, "score = q / n.scale[b] + bonus", "score = q / n.scale[b] - bonus"),),
        PUCT,
        (),
        SEARCHES,
    ),
    Mutation(
        "self-play: a draw taken for a loss",
        ((ALPHAZERO, "lambda_return(batch.reward, discount",
          "lambda_return(batch.reward - ((batch.reward == 0) & batch.terminated).float(), discount"),),
        OUTCOMES,
        (),
        SEARCHES,
    ),
    Mutation(
        "self-play: a reset that keeps the terminal flag",
        ((COLLECT, "running = self._library.ones_like(", "running = self.__dict__.setdefault('_kept', "
          "self._library.ones_like("),
         (COLLECT, "self._obs, dtype=bool)\n", "self._obs, dtype=bool))\n")),
        OUTCOMES,
        (),
        SEARCHES,
    ),
    Mutation(
        "a constraint that pays for its event",
        ((CONSTRAINT, "rollout.reward - self.multiplier.float()", "rollout.reward + self.multiplier.float()"),),
        checked_by(CONSTRAINT_TESTS, "on_the_frontier"),
        (),
    ),
    Mutation(
        "a multiplier that falls with the risk",
        ((CONSTRAINT, "(with_event - self._limit * ended)", "(self._limit * ended - with_event)"),),
        checked_by(CONSTRAINT_TESTS, "at_the_rate_of_the_limit"),
        (),
    ),
)  # fmt: skip
