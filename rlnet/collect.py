"""Rollouts from vector environments, and the bookkeeping of episodes."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from rlnet.data import Rollout
from rlnet.distributions import Distribution
from rlnet.rng import Streams


class Simulation(Protocol):
    """M × N environments that step together; see `rlnet.envs` for what the fields of a step mean."""

    def reset(self, seeds: Sequence[int] | None = None) -> Tensor: ...

    def step(self, action: Tensor) -> Any: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


FIELDS = ("obs", "action", "reward", "next_obs", "terminated", "truncated", "valid", "start_discount")


class Collector:
    """Steps a simulation with a policy into preallocated [T, M, N] tensors.

    Args:
        simulation: M × N environments.
        seeds: the M member seeds.
        envs: N.
        rollout: T, new steps in each rollout; with `whole_episodes` the most steps that an episode may have.
        gamma: [M, 1], for discounted returns.
        actions: how actions are drawn from what `act` gives.
        lookback: old rows kept at the front of each rollout, for targets that wait for later steps. A row is
            learned from in the rollout in which its target becomes known, and only in that one.
        whole_episodes: every rollout starts all environments afresh and plays one episode in each. A row's weight is
            then 1/N, so that a loss is a sum over the episode; otherwise it is 1/(T·N), a mean over steps. Episodes
            that happen to end inside a running window would be too short on average: hence the fresh start.
    """

    def __init__(
        self,
        simulation: Simulation,
        seeds: Sequence[int],
        envs: int,
        rollout: int,
        gamma: Tensor,
        actions: Distribution,
        *,
        lookback: int = 0,
        whole_episodes: bool = False,
    ) -> None:
        device = gamma.device
        self._simulation, self._gamma, self._actions = simulation, gamma, actions
        self._rollout, self.lookback, self._whole = rollout, lookback, whole_episodes
        self._uniforms = Streams(seeds, "behaviour", device)
        self._reset_seeds = Streams(seeds, "reset", device)
        members = len(seeds)
        self._obs = simulation.reset(self._draw_seeds())  # [M, N, ...]
        self._age = torch.zeros(members, envs, dtype=torch.int64, device=device)  # steps of the running episodes
        self._sums = torch.zeros(3, members, envs, device=device)  # return, discounted return, length so far
        self._finished = torch.zeros(4, members, device=device)  # the same over finished episodes, and their number
        self.episode_count = torch.zeros(members, dtype=torch.int64, device=device)  # finished since the beginning
        length = lookback + rollout
        flags = {
            name: torch.zeros(length, members, envs, dtype=torch.bool, device=device)
            for name in ("terminated", "truncated", "valid")
        }
        observations = {name: self._obs.new_zeros(length, *self._obs.shape) for name in ("obs", "next_obs")}
        numbers = {name: torch.zeros(length, members, envs, device=device) for name in ("reward", "start_discount")}
        action = torch.zeros(length, members, envs, *actions.shape, dtype=actions.dtype, device=device)
        self._rows: dict[str, Tensor] = {**flags, **observations, **numbers, "action": action}

    def _draw_seeds(self) -> list[int]:
        return self._reset_seeds.integers(2**31, 1).squeeze(1).tolist()

    @torch.no_grad()
    def collect(self, choose: Callable[[Tensor, Tensor], Tensor]) -> Rollout:
        """The next rollout.

        Args:
            choose: obs [M, N, ...] and uniform numbers [M, N, *shape of an action] → actions of the behaviour policy.
        """
        rows, keep = self._rows, self.lookback
        if keep:
            for tensor in rows.values():
                tensor[:keep] = tensor[-keep:].clone()
        running = None
        if self._whole:
            self._restart()
            running = torch.ones_like(self._age, dtype=torch.bool)
        shape = (*self._age.shape[1:], *self._actions.shape)
        uniforms = self._uniforms.uniform(self._rollout, *shape).unbind(1)  # T of [M, N] or [M, N, D]
        seen: list[tuple[Tensor, ...]] = []  # the steps: nothing else happens while the environments run
        for t, uniform in enumerate(uniforms):
            action = choose(self._obs, uniform)
            step = self._simulation.step(action)
            valid, truncated = step.valid, step.truncated
            if running is not None:
                valid = valid & running
                if t == self._rollout - 1:  # the cap on an episode's length is a time limit
                    truncated = truncated | ~step.terminated
            seen.append((self._obs, action, step.reward, step.next_obs, step.terminated, truncated, valid))
            self._obs = step.obs
            if running is not None:
                running &= ~(step.terminated | truncated)
                if not running.any():
                    break
        new = slice(keep, keep + len(seen))
        for name, values in zip(FIELDS, zip(*seen, strict=True), strict=False):
            torch.stack(values, out=rows[name][new])
        self._book(*(rows[name][new] for name in ("reward", "terminated", "truncated", "valid", "start_discount")))
        return self._view(len(seen))

    def _restart(self) -> None:
        # The environments get new seeds from each member's own stream: how long other members' episodes were
        # must not decide which numbers come next.
        self._obs = self._simulation.reset(self._draw_seeds())

    def _book(self, reward: Tensor, terminated: Tensor, truncated: Tensor, valid: Tensor, discount: Tensor) -> None:
        """Write γ^t into `discount`, and add the steps to the running episodes and to those that ended; [T, M, N]."""
        ended = (terminated | truncated) & valid
        begins = ended | ~valid  # the next row begins an episode: an invalid row is a reset
        # The row in which the episode of row t began; −age for the one that was running before.
        first = (-self._age).expand_as(reward).clone()
        time = torch.arange(len(reward), device=reward.device).view(-1, 1, 1)
        first[1:] = torch.where(begins[:-1], time[1:], first[1:])
        age = time - (first.cummax(0).values if len(first) > 1 else first)
        torch.pow(self._gamma, age, out=discount)
        self._age = (age[-1] + 1) * ~begins[-1]

        gains = torch.stack((reward * valid, reward * valid * discount, valid))  # [3, T, M, N]
        # Of each environment all steps until its last end are of finished episodes, the others of the running one.
        done = _later(ended)
        whole = (gains * done).sum(1) + self._sums * done[0]
        self._sums += gains.sum(1) - whole
        count = ended.sum(dim=(0, 2))
        self._finished[:3] += whole.sum(-1)
        self._finished[3] += count
        self.episode_count += count

    def _view(self, length: int) -> Rollout:
        total = self.lookback + length
        rows = {name: self._rows[name][:total] for name in FIELDS}
        if self._whole:
            weight = rows["valid"] / rows["valid"].shape[-1]
        else:
            weight = self._due(rows) / (self._rollout * rows["valid"].shape[-1])
        return Rollout(**rows, weight=weight)

    def _due(self, rows: dict[str, Tensor]) -> Tensor:
        """The rows whose target is known now and was not before: bool [T, M, N]."""
        keep = self.lookback
        if keep == 0:
            return rows["valid"]
        ended = (rows["terminated"] | rows["truncated"]) & rows["valid"]
        known = _later(ended)
        known[: len(known) - keep] = True
        known[:keep] &= ~_later(ended[:keep])
        return known & rows["valid"]

    def new_steps(self, rollout: Rollout) -> Tensor:
        """Transitions that the rollout added, per member: [M]."""
        return rollout.valid[self.lookback :].sum(dim=(0, 2))

    def episodes(self) -> dict[str, Tensor]:
        """Means over the episodes that ended since the last call, [M]; NaN for a member without any."""
        names = ("return/mean", "return/discounted", "episode/length")
        means = dict(zip(names, self._finished[:3] / self._finished[3], strict=True))
        means["episode/count"] = self._finished[3].clone()
        self._finished.zero_()
        return means

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on with the same next rollout."""
        tensors = {"obs": self._obs, "age": self._age, "sums": self._sums, "finished": self._finished}
        tensors["episode_count"] = self.episode_count
        streams = {"uniforms": self._uniforms.state_dict(), "reset_seeds": self._reset_seeds.state_dict()}
        return {**tensors, **streams, "rows": self._rows, "simulation": self._simulation.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self._obs, self._age = state["obs"], state["age"]
        self._sums, self._finished, self._rows = state["sums"], state["finished"], state["rows"]
        self.episode_count = state["episode_count"]
        self._uniforms.load_state_dict(state["uniforms"])
        self._reset_seeds.load_state_dict(state["reset_seeds"])
        self._simulation.load_state_dict(state["simulation"])


def _later(ended: Tensor) -> Tensor:
    """Whether an episode ends at row t or a later one: bool [T, M, N]."""
    return ended.flip(0).cummax(0).values.flip(0)
