"""Collector of rollouts: steps vector environments by a behaviour policy."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlnet.data.episodes import EpisodeCounts, later
from rlnet.data.interfaces import Choose, Searched, Simulation
from rlnet.data.rollout import EVENTS, OPTIONAL, Rollout
from rlnet.data.rows import allocated, fields_of
from rlnet.numerics.random_streams import Array, BlockUniform, Streams, as_array, derive_seed
from rlnet.policies.distributions import Distribution

BOOKED = ("reward", "terminated", "truncated", "valid")
STEPPED = ("obs", "action", "next_obs", "reward", "terminated", "truncated", "valid")  # known at every step


class Collector:
    """Steps a simulation with a policy into preallocated [T, M, N] tensors.

    Args:
        simulation: M × N environments.
        seeds: the M member seeds.
        envs: N.
        rollout: T, new steps in each rollout; with `whole_episodes` the most steps that an episode may have.
        gamma: [M, 1], for discounted returns.
        actions: distribution from which actions are sampled.
        lookback: rows of the rollout before, kept at the front of each rollout, for targets that need later steps. A
            row has a weight only in the rollout in which its target becomes known.
        whole_episodes: every rollout starts all environments afresh and plays one episode in each. A row's weight is
            then 1/N, so that a loss is a sum over the episode; otherwise it is 1/(T·N), a mean over steps. (A
            window over running episodes would complete short episodes more often than long ones.)
        game: whether the environment is a game of two players, whose steps have a sign; returns are then logged for
            the player who moves first.
        searched: A, where a tree search chooses actions; it fills the fields `search_policy` and `search_value`.
            None: no search.
        full: rollouts of whole episodes have T rows even where all episodes are shorter, so that what a replay samples
            for a member does not depend on the episode lengths of other members.
        watched: whether the simulation reports an event, which is then the field `event`.

    Raises:
        ConfigError: there is not memory enough for a rollout.
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
        game: bool = False,
        searched: int | None = None,
        full: bool = False,
        watched: bool = False,
    ) -> None:
        device = self._device = gamma.device
        self._simulation, self._gamma = simulation, gamma.cpu().numpy()
        self._rollout, self.lookback, self._whole = rollout, lookback, whole_episodes
        self._reset_seeds = Streams(seeds, "reset")
        self._seeds: list[int] = []  # that the environments began with
        self._obs = simulation.reset(self._draw_seeds())  # [M, N, ...]
        self._mask = simulation.mask  # bool [M, N, A], or None
        self._library = np if isinstance(self._obs, np.ndarray) else torch
        # A rollout's numbers are drawn together: how long other members' episodes are must not move the next ones.
        shape, streams = (rollout, envs, *actions.shape), Streams(seeds, "behaviour", device)
        self._uniforms = BlockUniform(streams, shape, max(1, 64 // rollout), self._library)
        grid = len(seeds), envs
        self._episodes = EpisodeCounts(grid, self._gamma, rollout, game)
        self._searches, self._full = searched is not None, full
        kinds = fields_of(torch.as_tensor(self._obs), self._mask, actions, game, searched, watched)
        # Of whole episodes only the rows that are reached take memory.
        what = "" if whole_episodes else f"algo.envs={envs} × algo.rollout={rollout}"
        self._tensors = allocated(kinds, (lookback + rollout, *grid), device, what)
        # Computed on the host; on the CPU these are the memory of the fields themselves.
        self._weight, self._discount = (np.zeros((lookback + rollout, *grid), np.float32) for _ in range(2))
        self._tensors["start_discount"] = torch.from_numpy(self._discount).to(device)
        for name in {"mask", "next_mask"} & set(self._tensors):
            # Rows before the first step: any action, or there would be none to average over.
            self._tensors[name].fill_(True)
        self._rows = {name: as_array(tensor, self._library) for name, tensor in self._tensors.items()}
        stepped = (*STEPPED, *(name for name in OPTIONAL if name in self._tensors))
        self._new = {name: self._rows[name][lookback:].reshape(-1, *self._rows[name].shape[2:]) for name in stepped}
        fields: dict[str, Any] = self._tensors | {"weight": torch.from_numpy(self._weight).to(device)}
        self._all = Rollout(**fields)  # of all rows, as they are at any time
        self._share = np.float32(1) / np.float32(envs * (1 if whole_episodes else rollout))
        self.new_steps = np.zeros(len(seeds), np.int64)  # transitions that the last rollout added, per member
        # Of whole episodes: how many steps a rollout shows, from how many it took here. Sums over rows depend on their
        # number: processes that share a population show as many as one would.
        self.shown: Callable[[int], int] | None = None
        self.ended = False  # whether an episode ended in the last rollout, or had ended just before

    def _draw_seeds(self) -> list[int]:
        return self._reset_seeds.integers(2**31, 1).squeeze(1).tolist()

    @torch.no_grad()
    @np.errstate(over="ignore", invalid="ignore")  # a member that diverges is reported by the learner
    def collect(self, choose: Choose) -> Rollout:
        """Collect the next rollout with the actions that `choose` returns."""
        running = None
        if self.lookback:
            for tensor in self._tensors.values():
                tensor[: self.lookback] = tensor[-self.lookback :].clone()
        if self._whole:
            self._restart()
            running = self._library.ones_like(self._obs[..., 0] if self._obs.ndim > 2 else self._obs, dtype=bool)
        return self._play(choose, self._uniforms.next(), running)

    @torch.no_grad()
    @np.errstate(over="ignore", invalid="ignore")
    def collect_again(self, choose: Choose, which: Tensor, number: int) -> Rollout:
        """Play one more episode in some environments, to replace theirs in the last rollout of whole episodes.

        Its random numbers are derived from the seeds of that rollout; the streams of `collect` are not advanced, so the
        next rollout does not depend on how often episodes were replayed.

        Args:
            choose: as of `collect`.
            which: bool [M, N]; rows of the others are not valid.
            number: how many times episodes of this rollout were replayed before.
        """
        seeds = [derive_seed(seed, "again", number) % 2**31 for seed in self._seeds]
        self._begin(seeds)
        drawn = Streams(seeds, "behaviour", self._device).uniform(*self._uniforms.shape)
        return self._play(choose, as_array(drawn, self._library), as_array(which.clone(), self._library))

    def _play(self, choose: Choose, uniforms: Array, running: Array) -> Rollout:
        """Step the environments T times; with whole episodes until all that are `running` (bool [M, N]) have ended."""
        keep, first, first_mask, steps, actions = self.lookback, self._obs, self._mask, [], []
        found: list[Searched] = []
        for t in range(self._rollout):
            if self._searches:
                found.append(choose(self._obs, self._mask, uniforms[:, t], running))
                action = found[-1].action
            else:
                action = choose(self._obs, self._mask, uniforms[:, t])
            step = self._simulation.step(action)
            if running is not None:
                cut = step.truncated
                if t == self._rollout - 1:  # the cap on an episode's length is a time limit
                    cut = cut | ~step.terminated
                step = step._replace(valid=step.valid & running, truncated=cut)
            actions.append(action)
            steps.append(step)
            self._obs, self._mask = step.obs, step.mask
            if running is not None:
                running &= ~(step.terminated | step.truncated)
                if not running.any() and not self._full:
                    break
        next_obs, reward, terminated, truncated, valid, obs, next_mask, mask, sign, event = zip(*steps, strict=True)
        seen = [(first, *obs[:-1]), actions, next_obs, reward, terminated, truncated, valid]
        if first_mask is not None:
            seen += [(first_mask, *mask[:-1]), next_mask]
        if sign[0] is not None:
            seen += [sign]
        if event[0] is not None:
            seen += [event]
        if self._searches:
            seen += [[own.policy for own in found], [own.value for own in found]]
        for into, values in zip(self._new.values(), seen, strict=True):
            self._library.concatenate(values, out=into[: len(steps) * len(first)])
        count = len(steps)
        if self.shown is not None:
            count = self.shown(count)
            for name in {*BOOKED, *EVENTS} & set(self._rows):
                self._rows[name][keep + len(steps) : keep + count] = 0
        return self._finish(keep + count)

    def _finish(self, total: int) -> Rollout:
        """Count the new steps among the first `total` rows, weigh the rows, and return them."""
        keep = self.lookback
        reward, terminated, truncated, valid = (self._on_host(name, total) for name in BOOKED)
        weight, count = self._weight[:total], np.count_nonzero
        gain = reward[keep:]
        if "sign" in self._rows:
            begins = (terminated | truncated | ~valid)[keep:]
            gain = self._episodes.of_first_player(gain, self._on_host("sign", total)[keep:], begins)
        self.ended = count(valid) != valid.size or bool(count(terminated) or count(truncated))
        if not self.ended:
            discount = self._episodes.go_on(gain)
            weight[: total - keep] = self._share
            if keep:
                weight[total - keep :] = 0.0
            self.new_steps.fill((total - keep) * valid.shape[-1])
        else:
            ended = (terminated | truncated) & valid
            discount = self._episodes.book(gain, ended[keep:], valid[keep:])
            np.multiply(valid if self._whole else self._due(ended, valid), self._share, out=weight)
            self.new_steps = valid[keep:].sum((0, 2))
        self._discount[keep:total] = discount
        if self._device.type != "cpu":
            self._all.weight[:total] = torch.from_numpy(weight)
            self._all.start_discount[keep:total] = torch.from_numpy(discount)
        if total == len(self._weight):
            return self._all
        fields: dict[str, Any] = {name: self._all.tensor(name)[:total] for name in self._all.names}
        return Rollout(**fields)

    def _on_host(self, name: str, total: int) -> np.ndarray:
        """The first rows of a field as an array of numpy: on the CPU in the same memory, from a device a copy."""
        rows = self._rows[name][:total]
        return rows if isinstance(rows, np.ndarray) else rows.cpu().numpy()

    def _restart(self) -> None:
        """Begin new episodes by seeds of each member's own stream, whatever the episode lengths of others."""
        self._begin(self._draw_seeds())

    def _begin(self, seeds: list[int]) -> None:
        """Start every environment afresh."""
        self._seeds, self._obs = seeds, self._simulation.reset(seeds)
        self._mask = self._simulation.mask

    def _due(self, ended: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """The rows whose target is known now and was not before: bool [T, M, N]."""
        keep = self.lookback
        if keep == 0:
            return valid
        known = later(ended)
        known[: len(known) - keep] = True
        known[:keep] &= ~later(ended[:keep])
        return known & valid

    @property
    def episode_count(self) -> np.ndarray:
        """Number of episodes that each member has finished since the start of the run: int64 [M]."""
        return self._episodes.count

    def episodes(self) -> dict[str, Tensor]:
        """See `EpisodeCounts.means`."""
        return self._episodes.means()

    def close(self) -> None:
        """Close the environments."""
        self._simulation.close()

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint, exact to the next rollout; all tensors with the members in front."""
        tensors = {name: torch.as_tensor(array + 0) for name, array in self._episodes.counted().items()}
        rows = {name: tensor.transpose(0, 1) for name, tensor in self._kept().items()}
        streams = {"uniforms": self._uniforms.state_dict(), "reset_seeds": self._reset_seeds.state_dict()}
        simulation = self._simulation.state_dict()
        if self._mask is not None:
            tensors["mask"] = torch.as_tensor(self._mask).clone()
        return {"obs": torch.as_tensor(self._obs + 0), **tensors, **streams, "rows": rows, "simulation": simulation}

    def _kept(self) -> dict[str, Tensor]:
        """The newest rows, those that the next rollout shows again."""
        return {name: tensor[self._rollout :] for name, tensor in self._tensors.items()}

    def load_state_dict(self, state: dict[str, Any], trust: bool = True) -> bool:
        """Restore the state of `state_dict`.

        Args:
            state: the state.
            trust: whether environments may be unpickled, which can run arbitrary code. Otherwise, and where they could
                not be saved, new episodes begin, and the running ones count as truncated after their last step.

        Returns:
            Whether the running episodes continue exactly.
        """
        self._obs = as_array(state["obs"], self._library)
        self._mask = as_array(state["mask"], self._library) if "mask" in state else None
        for name, own in self._episodes.counted().items():
            own[:] = state[name].cpu().numpy()
        for name, tensor in self._kept().items():
            tensor.copy_(state["rows"][name].transpose(0, 1))
        self._uniforms.load_state_dict(state["uniforms"])
        self._reset_seeds.load_state_dict(state["reset_seeds"])
        simulation = state["simulation"]
        if "environments" in simulation and (not trust or simulation["environments"] is None):
            last = {name: self._tensors[name][-1] for name in ("valid", "terminated", "truncated")}
            last["truncated"] |= last["valid"] & ~last["terminated"]
            self._episodes.begin()
            self._restart()
            return False
        self._simulation.load_state_dict(simulation)
        return True
