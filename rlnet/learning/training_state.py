"""The state of a training run between two updates."""

import copy
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from rlnet.algos.algorithm import Judged, by_policy
from rlnet.algos.context import PI, Q, V
from rlnet.compare import Comparison, Tables
from rlnet.config import Config, ReplayConfig
from rlnet.config.population import column, columns, constrained
from rlnet.data.interfaces import Choose
from rlnet.data.replay_buffer import Replay
from rlnet.data.rollout import Observation, Rollout
from rlnet.data.visits import count_visits
from rlnet.experiment.problem import Problem
from rlnet.learning.acting import actor
from rlnet.learning.checkpoint_checks import check_fits, same_settings
from rlnet.learning.collecting import make_collector, resampled
from rlnet.learning.earlier_selves import EarlierSelves
from rlnet.learning.lagrange_multipliers import Constraint
from rlnet.learning.learner import Learner
from rlnet.learning.normalization import Normalization
from rlnet.learning.scheduled import Scheduled, Schedules
from rlnet.learning.self_play import SelfPlay
from rlnet.learning.trained import Trained
from rlnet.numerics.random_streams import Streams
from rlnet.policies.exploration import COUNTING, greedy, softmax

_log = logging.getLogger(__name__)


class TrainingState:
    """State of a run between two updates: learner, collector, replay, counters and schedules.

    Args:
        config: a checked config.
        problem: what `build` made of it.
    """

    def __init__(self, config: Config, problem: Problem) -> None:
        self.config, self.problem = config, problem
        algorithm, seeds, device = problem.algorithm, config.member_seeds, config.device
        optimizer = columns(config, "optimizer", device)
        self.learner = Learner(algorithm, problem.context, optimizer, seeds, device, config.algo.envs, config.compile)
        self.gamma = column(config, "gamma", device)
        sizes = len(seeds), config.algo.envs, self.gamma
        statistics = Normalization(problem.context, self.learner.layout, *sizes)
        self.normalization = statistics if statistics.is_active else None  # None: nothing is normalised
        self.constraint: Constraint | None = None  # None: there is none
        if constrained(config):
            self.constraint = Constraint(columns(config, "constraint", device), config.algo.envs)
        self.collector = make_collector(config, problem, self.gamma)
        if problem.context.reference is not None:
            for name, value in problem.context.reference.items():
                self.learner.params[PI][name].copy_(value.expand_as(self.learner.params[PI][name]))
        self.self_play: SelfPlay | None = None  # how those act who search
        if algorithm.acting.planner is not None:
            self.self_play = SelfPlay(algorithm, problem.context, config)
        self._acting_by = partial(actor, algorithm, problem.context, device=device)
        self._act = self._acting_by(self.learner.params)
        self._choose: Choose | None = None  # how actions are chosen now; None: to be prepared
        self._drawn: list[tuple[Rollout, np.ndarray]] = []  # all that was played for an update, and its steps [M]
        self.replay: Replay | None = None
        self.shuffle = Streams(seeds, "replay", device)  # the order of minibatches
        self.updates = 0  # optimiser steps so far
        self.steps = torch.zeros(len(seeds), dtype=torch.int64)  # [M], on the CPU, where the loop looks at them
        self.diverged = torch.full_like(self.steps, -1)  # [M], the step at which it was seen; −1 for sound members
        self._rows = problem.environment.states
        states, actions = problem.environment.n_states, problem.environment.n_actions
        states = states if self._rows is None else problem.mdp.n_states
        self.visits: Tensor | None = None  # int64 [M, S, A], where states and actions can be counted
        if states is not None and actions is not None:
            self.visits = torch.zeros((len(seeds), states, actions), dtype=torch.int64, device=device)
        mask = problem.available  # [S, A], None where every state has every action
        self._mask = None if mask is None else mask.expand(len(seeds), -1, -1)
        self.algo = columns(config, "algo", device)
        self.earlier: EarlierSelves | None = None  # of board games that have no exact scores
        selves, plain = config.evaluation.selves, problem.environment.mdp is None and config.evaluation.every != 0
        if problem.environment.board is not None and plain and selves:
            self.earlier = EarlierSelves(config.steps, selves, self.learner.theta)
        if algorithm.data.replay:
            self.replay = _replay(config, self.algo)
        self._schedules, self._unscheduled = Schedules(config), torch.zeros_like(self.gamma)
        self.follow()

    def follow(self) -> None:
        """Bring the scheduled numbers up to date; call after changing `steps` or the number of finished episodes."""
        self._schedules.update(self.steps.numpy(), self.collector.episode_count)
        explore = self._schedules.explore
        if explore is not None and explore.changes and self.problem.algorithm.acting.explores:
            self._choose = None

    @property
    def explore(self) -> Tensor:
        """The current number of the exploration's schedule (ε, τ, c, ...), [M, 1]; 0 where nothing is scheduled."""
        return self._unscheduled if self._schedules.explore is None else self._schedules.explore.value

    def trained(self) -> Trained:
        """What is learned so far, as policies use it; it follows the parameters, not the exploration."""
        return Trained(self.config, self.problem, self.learner.layout, self.learner.theta, self.hyper())

    @property
    def learning_rate(self) -> Tensor:
        """The current learning rate, [M, 1]; 0 for members that are done or have diverged."""
        rate, active = self._schedules.learning_rate.value, self.steps.numpy() < self.config.steps
        if not self.learner.all_alive:
            rate = rate * self.learner.alive
        return rate if active.all() else rate * torch.from_numpy(active)[:, None].to(rate.device)

    @property
    def correction(self) -> Tensor:
        """The current β of prioritised replay, [M, 1]."""
        return cast(Scheduled, self._schedules.correction).value

    def newly_diverged(self) -> list[int]:
        """The members that the learner has frozen since the last call; their step is noted in `diverged`."""
        new = ~self.learner.alive.squeeze(-1).cpu() & (self.diverged < 0)
        self.diverged = torch.where(new, self.steps, self.diverged)
        return new.nonzero().flatten().tolist()

    def collect(self) -> Rollout:
        """The next rollout, by the current parameters and exploration."""
        if self.self_play is not None:
            rollout = self.collector.collect(self.self_play.choosing(self.learner.params, self.hyper()))
        elif self.learner.layout.noisy:
            rollout = self.collector.collect(self._acting_by(self.learner.acting_params())(self.hyper()))
        else:
            if self._choose is None:
                self._choose = self._act(self.hyper())
            rollout = self.collector.collect(self._choose)
        unwanted = self.problem.algorithm.data.drawn_again
        if unwanted is not None:
            which = partial(unwanted, self.config.algo.options)
            rollout, self._drawn = resampled(rollout, self.collector, cast(Choose, self._choose), which)
        if self.collector.ended:
            self.follow()
        if self.constraint is not None:
            share = self.steps / self.config.steps
            self.constraint.observe(rollout, self.collector.lookback, share < 1, share >= self.config.constraint.after)
        if self.normalization is not None:
            thetas = self.learner.theta, self.learner.target
            self.normalization.observe(self.charged(rollout), self.collector.lookback, *thetas)
            self.learner.target_changed()
        return rollout

    def charged(self, rollout: Rollout) -> Rollout:
        """A rollout, or a batch of the replay, with the reward that is learned from: less what a constraint charges."""
        return rollout if self.constraint is None else self.constraint.charged(rollout)

    def hyper(self) -> dict[str, Tensor]:
        """Current hyperparameters of acting and losses, [M, 1] each; visits [M, S, A] for count-based exploration."""
        numbers = {"gamma": self.gamma, "explore": self.explore, **self.algo.hyper}
        if self.config.exploration.name == "entropy":
            numbers["entropy_coefficient"] = numbers["entropy_coefficient"] * self.explore
        elif self.config.exploration.name in COUNTING:
            numbers["visits"] = cast(Tensor, self.visits)
        return numbers

    def count(self, rollout: Rollout) -> None:
        """Count the steps and visits of the last collected rollout."""
        steps = self.steps.numpy()
        active = steps < self.config.steps  # a member that has done its steps does not count those it still sees
        for drawn, new_steps in self._drawn or [(rollout, self.collector.new_steps)]:
            steps += new_steps * active
            self._count_visits(drawn, active)
        self._drawn = []
        if self.earlier is not None:
            self.earlier.observe(self.steps, self.learner.theta)
        self.follow()

    def _count_visits(self, rollout: Rollout, active: np.ndarray) -> None:
        if self.visits is not None:
            on_cpu, names = self.visits.device.type == "cpu", ("obs", "action", "valid")
            field = rollout.array if on_cpu else rollout.tensor  # numpy counts a few rows in half the time
            obs, action, valid = (field(name)[self.collector.lookback :] for name in names)
            if self._rows is not None:
                numbers = self._rows.states(torch.as_tensor(obs).cpu().numpy())
                obs = numbers if on_cpu else torch.from_numpy(numbers).to(self.visits.device)
            if on_cpu:
                count_visits(self.visits.numpy(), obs, action, valid, active)
            else:
                count_visits(self.visits, obs, action, valid, torch.from_numpy(active).to(self.visits.device))

    @torch.no_grad()
    def tables(self) -> Tables:
        """Evaluate the networks on every state: V, Q and the judged policy of each member."""
        problem, params = self.problem, self.learner.params
        mdp, algorithm = problem.mdp, problem.algorithm
        states = problem.shown(self.gamma.device)  # [S], or what is shown in them
        hyper, state = self.hyper(), Observation(states.expand(len(self.steps), *states.shape), self._mask)
        q = algorithm.action_values(problem.context, params, state, hyper) if Q in algorithm.roles else None
        v = problem.context.v(params, state) if V in algorithm.roles else None
        # Just before a member is seen to diverge its numbers may be infinite or none.
        q = None if q is None else q.nan_to_num(neginf=-math.inf)
        v = None if v is None else v.nan_to_num()
        if algorithm.judged is Judged.GREEDY:
            policy = greedy(cast(Tensor, q))
        elif algorithm.judged is Judged.GIVEN:
            policy = cast(Tensor, problem.context.given_policy)
        elif algorithm.judged is Judged.SOFT:
            policy = softmax(cast(Tensor, q), self._temperature())
        elif algorithm.judged is Judged.ACTOR:  # whoever gathers the data
            policy = by_policy(problem.context, params, state, hyper)
        else:
            policy = algorithm.acting.act(problem.context, params, state, hyper)
        own = slice(None) if self._rows is None else self._rows.of_state
        of_states = slice(None) if algorithm.judged is Judged.GIVEN else own  # a given policy is one of states
        policy = policy.double().nan_to_num(1.0).cpu().numpy()[:, of_states] * mdp.available
        policy /= np.maximum(policy.sum(-1, keepdims=True), 1e-300)  # float32 probabilities sum to 1 ± 1e-7
        v_array, q_array = (None if x is None else x.double().cpu().numpy()[:, own] for x in (v, q))
        searched = None if self.self_play is None else self.self_play.played(params, hyper, mdp, policy, v_array)
        return Tables(policy, v_array, q_array, searched)

    def _temperature(self) -> Tensor:
        """τ of the problem that is solved, [M, 1, 1]."""
        return self.gamma.new_tensor([solution.temperature for solution in self.problem.exact]).view(-1, 1, 1)

    def compare(self) -> tuple[Tables, Comparison]:
        """Score the networks, as they are, against the exact solution."""
        tables = self.tables()
        return tables, self.problem.score(tables, self.tried())

    def tried(self) -> np.ndarray:
        """How often each action was taken in each state, int64 [M, S, A]; states that look alike count together."""
        visits = cast(Tensor, self.visits).cpu().numpy()
        return visits if self._rows is None else self._rows.spread(visits)

    def _parts(self) -> dict[str, Any]:
        """What keeps a state of its own beside the collector, by its name in a checkpoint."""
        parts = {
            "learner": self.learner, "replay": self.replay, "self_play": self.self_play, "earlier": self.earlier,
            "normalization": self.normalization, "constraint": self.constraint, "shuffle": self.shuffle,
        }  # fmt: skip
        return {name: part for name, part in parts.items() if part is not None}

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint, from which a run goes on exactly where it stopped."""
        parts = {name: part.state_dict() for name, part in {**self._parts(), "collector": self.collector}.items()}
        counters = {"steps": self.steps, "diverged": self.diverged, "visits": self.visits, "updates": self.updates}
        return {**parts, **counters, "config": asdict(self.config)}

    def load_state_dict(self, state: Mapping[str, Any], trust: bool = True) -> None:
        """Restore the state of `state_dict`.

        Args:
            state: what it gave.
            trust: whether pickled environments may be restored; otherwise, and where they could not be saved, they
                begin new episodes, which is warned of.

        Raises:
            ConfigError: the state belongs to other settings.
            DamagedError: it is none of such a run.
        """
        same_settings(self.config, state["config"])
        check_fits(self.state_dict(), state)
        state = copy.deepcopy(dict(state))  # or two runs restored from it would share their tensors
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        exact = self.collector.load_state_dict(state["collector"], trust)
        self.steps.copy_(state["steps"])
        self.diverged.copy_(state["diverged"])
        self.updates = state["updates"]
        if self.visits is not None:
            self.visits.copy_(state["visits"])
        self.follow()
        if not exact:
            self._begin_new_episodes(state["collector"]["simulation"]["reason"])

    def _begin_new_episodes(self, reason: str | None) -> None:
        """Forget the running episodes, which the environments could not go on with, and say why."""
        if self.constraint is not None:
            self.constraint.begin()
        if self.replay is not None:
            self.replay.cut()
        if self.learner.traces is not None:
            self.learner.traces.forget(torch.ones_like(self.learner.traces.foreseen, dtype=torch.bool))
        pickled = "those of the checkpoint are pickled, and unpickling runs code; trust=true restores them and goes "
        _log.warning("the environments begin new episodes: %s", reason or f"{pickled}on exactly where the run was")


def _replay(config: Config, algo: ReplayConfig) -> Replay:
    device = None if config.device == "cpu" else config.device
    sizes = (algo.capacity, algo.batch, algo.n_step, config.member_seeds, device)
    return Replay(*sizes, priority=algo.priority, floor=algo.priority_floor)
