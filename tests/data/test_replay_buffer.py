"""Replay: what goes in comes out, uniformly, in whole segments, for each member from its own stream."""

import copy

import pytest
import torch
from scipy.stats import chisquare
from support import make_run, update

from rlnet.algos import load
from rlnet.algos.loss_terms import segment_end
from rlnet.config import ConfigError
from rlnet.data.replay_buffer import Replay
from rlnet.data.rollout import FIELDS, Rollout, first_row
from rlnet.data.transitions import Records

MEMBERS, ENVS = 2, 3


def rollout(first: int, length: int) -> Rollout:
    """Rows whose reward tells time, member and environment: 100·t + 10·m + n."""
    time = torch.arange(first, first + length).view(-1, 1, 1)
    code = 100 * time + 10 * torch.arange(MEMBERS).view(1, -1, 1) + torch.arange(ENVS)
    flags = torch.zeros(length, MEMBERS, ENVS, dtype=torch.bool)
    ones = torch.ones(length, MEMBERS, ENVS)
    rows = code, code % 2, code.float(), code + 100, flags, flags, ~flags, ones, ones
    return Rollout(**dict(zip(FIELDS, rows, strict=True)))


def test_segments_are_consecutive_steps_of_one_environment_of_the_member():
    replay = Replay(30, 64, 3, [0, 1])
    for t in range(0, 52, 4):  # the seam of the ring of 10 rows lies inside of it, and of the last rollout
        replay.add(rollout(t, 4))
    batch = replay.sample()
    assert batch.obs.shape == (3, MEMBERS, 64)
    assert torch.equal(batch.obs[1:], batch.obs[:-1] + 100)
    assert torch.equal(batch.next_obs, batch.obs + 100)
    assert torch.equal(batch.reward, batch.obs.float())
    for m in range(MEMBERS):
        assert (batch.obs[:, m] // 10 % 10 == m).all()
    assert batch.weight[0].sum(1).tolist() == pytest.approx([1.0, 1.0])
    assert (batch.weight[1:] == 0).all()


def test_only_the_newest_are_kept_and_all_of_them_equally_often():
    replay = Replay(30, 500, 1, [0, 1])
    for t in range(25):
        replay.add(rollout(t, 1))
    assert len(replay) == 30
    seen = torch.cat([replay.sample().obs[0, 1] for _ in range(20)])
    times = seen // 100
    assert times.min() == 15
    assert times.max() == 24
    counts = seen.unique(return_counts=True)[1]
    assert len(counts) == 30
    assert chisquare(counts.numpy()).pvalue > 1e-3


def test_rows_that_are_no_transitions_have_no_weight():
    replay = Replay(10, 50, 1, [0, 1])
    rows = rollout(0, 2)
    rows.valid[1] = False
    replay.add(rows)
    batch = replay.sample()
    assert (batch.weight[0][batch.obs[0] // 100 == 1] == 0).all()
    assert (batch.weight[0][batch.obs[0] // 100 == 0] > 0).all()


@pytest.mark.parametrize("priority", [0.0, 0.6])
def test_records_and_tensors_hold_the_same(priority):
    """In segments over the seam, also on from a saved state."""
    records, resumed = (Replay(30, 16, 2, [4, 7], priority=priority) for _ in range(2))
    tensors = Replay(30, 16, 2, [4, 7], "cpu", priority=priority)
    for t in range(0, 24, 3):
        for replay in (records, tensors):
            replay.add(rollout(t, 3))
        if t == 12:
            resumed.load_state_dict(copy.deepcopy(records.state_dict()))
            records = resumed
        a, b = records.sample(), tensors.sample()
        for name in sorted({*FIELDS, "weight"} - {"start_discount"}):
            assert getattr(a, name).dtype == getattr(b, name).dtype
            assert torch.equal(getattr(a, name), getattr(b, name)), name


@pytest.mark.parametrize("kind", [torch.uint8, torch.int64, torch.float32])
def test_of_large_observations_a_segment_reads_its_first_and_its_last(kind, monkeypatch):
    """They come out as they went in, in segments over the seam too, and as from tensors."""

    def wide(first: int, length: int) -> Rollout:
        rows = rollout(first, length)
        code = (rows.obs.unsqueeze(-1) + torch.arange(1100)) % 251
        ended = rows.obs // 100 % 4 == 1
        return rows.replace(obs=code.to(kind), next_obs=(code + 1).to(kind), terminated=ended)

    replay, tensors = Replay(30, 16, 3, [4, 7]), Replay(30, 16, 3, [4, 7], "cpu")
    for t in range(0, 24, 3):
        for own in (replay, tensors):
            own.add(wide(t, 3))
    read, gathered = [], Records._gathered
    monkeypatch.setattr(Records, "_gathered", lambda self, name, at: read.append(at.size) or gathered(self, name, at))
    for _ in range(5):
        batch, other = replay.sample(), tensors.sample()
        end, last = segment_end(batch).obs, segment_end(other).obs
        assert end.dtype == last.dtype == kind
        assert torch.equal(end, last)
        assert torch.equal(first_row(batch).obs, other.obs[:1])
        assert torch.equal(first_row(batch).reward, other.reward[:1])
        assert read == [MEMBERS * 16] * 2
        assert torch.equal(batch.obs, other.obs)
        assert torch.equal(segment_end(batch.replace(next_obs=other.next_obs + 1)).obs, last + 1)
        assert torch.equal(batch.next_obs, other.next_obs)
        read.clear()


def episodes(length: int, seed: int, kind: torch.dtype, colours: int = 200) -> Rollout:
    """Random walks among observations of one colour each: they end by chance, and the next one begins elsewhere."""
    rng = torch.Generator().manual_seed(seed)
    obs = torch.randint(0, colours, (length + 1, MEMBERS, ENVS, 1), generator=rng).expand(-1, -1, -1, 1100)
    ends = torch.rand(length, MEMBERS, ENVS, generator=rng) < 0.1
    final = (obs[1:] + 1) % colours
    rows = rollout(0, length)
    next_obs = torch.where(ends.unsqueeze(-1), final, obs[1:])
    return rows.replace(obs=obs[:-1].to(kind), next_obs=next_obs.to(kind), terminated=ends)


@pytest.mark.parametrize(("kind", "colours"), [(torch.uint8, 2), (torch.int64, 200), (torch.float32, 200)])
def test_large_observations_are_stored_once_and_come_out_as_they_went_in(kind, colours):
    """In rollouts of any length, around the ring many times, through a checkpoint before and after it is full."""
    whole, start = episodes(90, 3, kind, colours), 0
    replay, tensors = Replay(30, 64, 2, [4, 7]), Replay(30, 64, 2, [4, 7], "cpu")
    for length in (1, 3, 2, 10, 1, 1, 7, 4, 10, 5, 9, 10, 10, 3, 8, 6):
        rows = Rollout(**{name: whole.tensor(name)[start : start + length] for name in whole.names})
        start += length
        for own in (replay, tensors):
            own.add(rows)
        if start == 1:
            continue
        state = copy.deepcopy(replay.state_dict())
        assert state["ring"]["obs"].shape[1] == min(start, 10), "rows that were never written"
        again, other = Replay(30, 64, 2, [4, 7]), Replay(30, 64, 2, [4, 7], "cpu")
        again.load_state_dict(state)
        other.load_state_dict(copy.deepcopy(tensors.state_dict()))
        replay = again if start % 2 else replay
        tensors = other if start % 3 else tensors
        batch, expected = replay.sample(), tensors.sample()
        for name in ("obs", "next_obs", "reward", "terminated", "weight"):
            assert torch.equal(batch.tensor(name), expected.tensor(name)), name
        assert "next_obs" not in replay._ring._apart
        held = slice(max(0, start - 10), start)
        own = len(replay._ring._next._own)
        assert own <= whole.terminated[held].sum() + 2 * MEMBERS * ENVS, "ends, the newest rows, and a seam"


def test_a_replay_that_memory_cannot_hold_is_refused_when_the_first_rows_come(monkeypatch):
    monkeypatch.setattr("rlnet.config.memory.available", lambda: 2.0**30)
    rows = episodes(2, 0, torch.uint8)
    with pytest.raises(
        ConfigError, match=r"algo.capacity=1000000: needs about 4.1\d GiB of memory, and 1 GiB are avail"
    ):
        Replay(1_000_000, 4, 1, [0, 1]).add(rows)
    Replay(100_000, 4, 1, [0, 1]).add(rows)


def test_64_members_with_100000_transitions_of_cartpole_fit_into_a_gibibyte():
    run = make_run("env=cartpole", "algo=dqn", "algo.capacity=100000", "algo.learning_starts=10", "seeds=64")
    run.replay.add(run.collect())
    assert run.replay.slots * run.config.algo.envs >= 100_000
    assert run.replay._ring._records.nbytes < 2**30
    assert run.replay._ring._records.nbytes >= 64 * 100_000 * (2 * 4 + 1) * 4  # two observations and a reward


def test_a_member_draws_the_same_segments_alone():
    many, alone = Replay(30, 16, 2, [4, 7]), Replay(30, 16, 2, [7])
    rows = rollout(0, 8)
    many.add(rows)
    alone.add(Rollout(**{name: rows.tensor(name)[:, 1:] for name in rows.names}))
    for _ in range(5):
        assert torch.equal(many.sample().obs[:, 1], alone.sample().obs[:, 0])


def test_too_little_and_too_much_are_refused():
    replay = Replay(6, 4, 2, [0, 1])
    replay.add(rollout(0, 1))
    with pytest.raises(ValueError, match="1 steps are stored, a segment needs 2"):
        replay.sample()
    with pytest.raises(ValueError, match="does not fit into a replay of 2 steps"):
        replay.add(rollout(1, 3))
    with pytest.raises(ValueError, match="batch=0: must be at least 1"):
        Replay(6, 0, 1, [0])


SMALL = ("env=random_walk", "gamma=0.9", "algo.learning_starts=100", "algo.batch=16", "seeds=2", "steps=4000")


def test_a_resumed_replay_goes_on_with_the_same_bits(tmp_path):
    options = (*SMALL, "algo=dqn", "algo.n_step=2", "algo.target_every=7")
    whole, half, resumed = make_run(*options), make_run(*options), make_run(*options)
    update(half, 10)
    torch.save(half.state_dict(), tmp_path / "checkpoint.pt")
    resumed.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    update(resumed, 10)
    update(whole, 20)
    assert torch.equal(whole.learner.theta, resumed.learner.theta)
    assert torch.equal(whole.learner.target, resumed.learner.target)


@pytest.mark.parametrize(
    ("options", "due"), [(("algo.target_every=5",), 5), (("algo.target_every=null", "algo.target_rate=0.1"), 1)]
)
def test_the_target_network_follows(options, due):
    run = make_run(*SMALL, "algo=dqn", *options)
    start = run.learner.target.clone()
    if due > 1:
        update(run, due - 1)
    assert torch.equal(run.learner.target, start)
    update(run, 1)
    share = 0.1 if due == 1 else 1.0
    torch.testing.assert_close(run.learner.target, start + share * (run.learner.theta - start))


@pytest.mark.parametrize("name", ["dqn", "double_dqn"])
def test_learning_begins_when_enough_is_stored(name):
    run = make_run(*SMALL, f"algo={name}")
    assert load(name).data.replay
    update(run, 1)
    assert len(run.replay) >= 100
    assert run.steps.tolist() == [len(run.replay)] * 2
    assert run.updates == 1


def prioritised(capacity: int = 30, batch: int = 64, steps: int = 1, exponent: float = 0.7) -> Replay:
    return Replay(capacity, batch, steps, [0, 1], priority=exponent, floor=0.1)


def surprised(replay: Replay, errors: torch.Tensor) -> None:
    """Give every stored row [M, slots·N] its error."""
    place = torch.arange(errors.shape[1]).expand(1, MEMBERS, -1)
    replay.prioritise(Rollout(**dict.fromkeys(FIELDS), extra={"place": place}), errors.unsqueeze(0))


def test_segments_are_drawn_in_proportion_to_their_priority():
    """Chi-square over 40,000 draws for each member; the newest row of a two-step replay has no segment yet."""
    replay = prioritised(batch=2000, steps=2)
    replay.add(rollout(0, 10))
    errors = torch.linspace(0, 3, 60)[torch.randperm(60, generator=torch.Generator().manual_seed(1))].view(MEMBERS, 30)
    surprised(replay, errors)
    counts = torch.zeros(MEMBERS, 30)
    for _ in range(20):
        place = replay.sample().extra["place"][0]
        counts += torch.stack([row.bincount(minlength=30) for row in place])
    expected = (errors + 0.1) ** 0.7
    expected[:, 27:] = 0.0  # 3 environments: the last step
    assert (counts[:, 27:] == 0).all()
    for m in range(MEMBERS):
        share = expected[m, :27].double() / expected[m].double().sum()
        assert chisquare(counts[m, :27].numpy(), 40_000 * share.numpy()).pvalue > 1e-3


def test_importance_weights_make_the_expected_gradient_that_of_uniform_replay():
    """Enumeration: Σ P(i)·w(i)·g(i) = c·mean g, the same c for any g; with β = 0 the weights are all 1."""
    replay = prioritised(batch=3000)
    replay.add(rollout(0, 10))
    errors = torch.linspace(0, 3, 60).view(MEMBERS, 30)
    surprised(replay, errors)
    batch = replay.sample(correction=1.0)
    place, weight = batch.extra["place"][0], batch.weight[0] * 3000
    table = torch.full((MEMBERS, 30), torch.nan).scatter_(1, place, weight)
    assert not table.isnan().any()  # every row was drawn, so every weight is known
    probability = (errors + 0.1) ** 0.7
    probability = probability / probability.sum(1, keepdim=True)
    product = probability * table
    torch.testing.assert_close(product, product.mean(1, keepdim=True).expand_as(product), rtol=1e-4, atol=0)
    assert table.amax(1).tolist() == pytest.approx([1.0, 1.0])
    torch.testing.assert_close(product.sum(1), 30 * probability.amin(1))
    half = replay.sample(correction=torch.tensor([[0.5], [0.0]]))
    torch.testing.assert_close(half.weight[0, 0] * 3000, table[0][half.extra["place"][0, 0]] ** 0.5)
    assert (half.weight[0, 1] * 3000 == 1).all()


def test_new_rows_are_as_likely_as_the_most_surprising_one_and_the_oldest_are_forgotten():
    replay = prioritised()
    replay.add(rollout(0, 10))
    surprised(replay, torch.full((MEMBERS, 30), 9.9))
    surprised(replay, torch.full((MEMBERS, 30), 0.9))
    replay.add(rollout(10, 2))
    place = torch.cat([replay.sample().extra["place"][0] for _ in range(300)], 1)
    share = (place < 6).double().mean(1)  # slots 0 and 1 were written again
    new, old = 6 * 10.0**0.7, 24 * 1.0
    assert share.tolist() == pytest.approx([new / (new + old)] * 2, abs=0.02)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("device", [None, "cpu"])
def test_what_is_drawn_from_follows_the_ring(steps, device):
    """Over its seam, by rollouts of all lengths: every row has its own mass, but for those without a segment."""
    replay, rng = Replay(30, 16, steps, [0, 1], device, priority=0.7), torch.Generator().manual_seed(0)
    for t in range(40):
        replay.add(rollout(4 * t, 3 + t % 8 if t < 2 else 1 + t % 10))
        replay.prioritise(replay.sample(), torch.rand(steps, MEMBERS, 16, generator=rng))
        slots = replay._mass.view(MEMBERS, 10, ENVS).clone()
        for back in range(steps - 1):
            slots[:, (replay._added - 1 - back) % 10] = 0
        rows = torch.as_tensor(replay._drawable._rows).view(MEMBERS, -1)[:, :30]
        assert torch.equal(rows, slots.flatten(1))
        sums = torch.as_tensor(replay._drawable._sums).sum(1)
        torch.testing.assert_close(sums, slots.flatten(1).sum(1))


def test_rows_that_are_no_transitions_are_never_drawn_by_priority():
    replay = prioritised()
    rows = rollout(0, 2)
    rows.valid[1] = False
    replay.add(rows)
    assert (replay.sample().obs < 100).all()


@pytest.mark.parametrize("name", ["dqn", "double_dqn", "qr_dqn", "soft_q", "munchausen_dqn"])
def test_learning_sets_the_priorities_of_what_was_learned_from(name):
    run = make_run(*SMALL, f"algo={name}", "algo.priority=1", "algo.priority_floor=0.5", "network=tabular")
    update(run, 2)
    masses = run.replay._mass[run.replay._mass > 0]
    assert len(masses.unique()) > 1
    assert masses.min() >= 0.5
    assert run.correction.flatten().tolist() == pytest.approx([0.4 + 0.6 * float(run.steps[0]) / 4000] * 2)


def test_a_prioritised_member_draws_the_same_alone_and_goes_on_with_the_same_bits(tmp_path):
    options = (*SMALL, "algo=dqn", "algo.priority=0.6", "algo.n_step=2")
    whole, half, resumed = (make_run(*options) for _ in range(3))
    update(half, 10)
    torch.save(half.state_dict(), tmp_path / "checkpoint.pt")
    resumed.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    update(resumed, 10)
    update(whole, 20)
    assert torch.equal(whole.learner.theta, resumed.learner.theta)
    alone = make_run(*options, "seeds=1", "seed=1")
    update(alone, 20)
    torch.testing.assert_close(alone.learner.theta[0], whole.learner.theta[1])


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("algo.priority=-1", r"algo.priority=-1.0: must be a finite number, at least 0"),
        (
            "algo.correction.end=2",
            r"algo.correction.end=2.0: β, how far .* must be in \[0, 1\]",
        ),
        ("algo.hyper.huber=0", r"algo.hyper.huber=0.0: must be in \[1e-06, inf\]"),
        ("algo.priority=1 algo.priority_floor=0", r"algo.priority_floor=0.0: must be above 0"),
    ],
)
def test_wrong_numbers_of_a_replay_are_named(wrong, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make_run("algo=dqn", *wrong.split())
