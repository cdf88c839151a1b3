"""A disk that is full, files and memory that are limited: one sentence, and what was on the disk stays usable."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from support import ROOT, composed, quick

from rlnet.audit import evidence
from rlnet.audit.sources import PopulationSource
from rlnet.bench.attack import differences
from rlnet.commands import command_line
from rlnet.config import ConfigError, memory
from rlnet.config.files import read_rows
from rlnet.envs import make
from rlnet.experiment.checkpoints import read_checkpoint, write_checkpoint
from rlnet.experiment.problem import build
from rlnet.experiment.solve_job import solve_and_write
from rlnet.experiment.tensorboard import Board
from rlnet.learning.training_loop import train

pytestmark = pytest.mark.usefixtures("without_pictures")

resource = pytest.importorskip("resource")
WALK = ("env=random_walk", "network=tabular", "algo.envs=4", "algo.rollout=2", "compare_share=1")


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file of this process may become larger; what would is refused by the system, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# What is too large first, and when. Without TensorBoard's files, which are the largest, where they are not meant.
FIRST = {
    "checkpoint.pt": (8_000, "steps=4000", "log_every=400", "checkpoint_every=1500", "compare_every=2000"),
    "metrics.csv": (70_000, "steps=8000", "log_every=8", "checkpoint_every=1500", "compare_every=4000"),
    "events.out.tfevents.*": (70_000, "steps=4000", "log_every=8", "checkpoint_every=500", "compare_every=2000"),
}


@pytest.mark.slow
@pytest.mark.parametrize("file", FIRST)
def test_a_file_that_may_not_grow_is_named_and_the_run_goes_on_where_there_is_room(file, tmp_path, monkeypatch):
    most, *cadence = FIRST[file]
    if not file.startswith("events"):
        monkeypatch.setattr(Board, "scalars", lambda *_: None)
    with files_of_at_most(most), pytest.raises(OSError, match="File too large") as caught:
        train(composed(*WALK, *cadence), tmp_path / "run")
    assert caught.value.filename == str(tmp_path / "run" / file)
    assert list((tmp_path / "run").rglob("*.part")) == []
    assert all(row["step"] and row["time/compare_share"] for row in read_rows(tmp_path / "run" / "metrics.csv"))
    train(composed(*WALK, *cadence, f"resume={tmp_path / 'run'}"), tmp_path / "run")
    train(composed(*WALK, *cadence), tmp_path / "whole")
    assert differences(tmp_path / "whole", tmp_path / "run") == []


@pytest.mark.parametrize("size", [0, 20, 4_000, 60_000, 79_000])
def test_a_checkpoint_that_does_not_fit_leaves_the_ones_before(size, tmp_path):
    """Wherever the file ends, the system's own error arrives: torch would tell of its place in the file alone."""
    for k in range(2):
        write_checkpoint(tmp_path, {"x": torch.full((20_000,), float(k))})
    with files_of_at_most(size), pytest.raises(OSError, match="File too large") as caught:
        write_checkpoint(tmp_path, {"x": torch.zeros(20_000)})
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(tmp_path / "checkpoint.pt"))
    assert [float(read_checkpoint(tmp_path / f"checkpoint{name}.pt")["x"][0]) for name in ("", "_previous")] == [1, 0]
    assert list(tmp_path.glob("*.part")) == []


@pytest.mark.parametrize("which", quick([3, 8, 12], [8]))
def test_a_disk_that_takes_no_more_when_it_is_asked_to_keep_what_it_has(which, tmp_path, monkeypatch):
    """A system may have taken bytes that it cannot write: it says so when they are synced."""
    options, was, seen = (*WALK, "steps=2000", "log_every=400", "checkpoint_every=600"), os.fsync, []

    def full(number: int) -> None:
        seen.append(number)
        if len(seen) == which:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        was(number)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        train(composed(*options), tmp_path / "run")
    assert Path(caught.value.filename).parent in (tmp_path / "run", tmp_path / "run" / ".hydra")
    monkeypatch.setattr(os, "fsync", was)
    there = (tmp_path / "run" / "metrics.csv").exists()
    train(composed(*options, *([f"resume={tmp_path / 'run'}"] if there else [])), tmp_path / "run")
    train(composed(*options), tmp_path / "whole")
    assert differences(tmp_path / "whole", tmp_path / "run") == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "run/x"), "run/x: No space left on device; make room"),
        (MemoryError("Unable to allocate 9 EiB"), "there is not enough memory (Unable to allocate 9 EiB); make the"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "there is not enough memory (DefaultCPU"),
        (
            RuntimeError("can't start new thread"),
            "there is not enough memory, or there are too many processes (can't st",
        ),
    ],
)
def test_what_a_system_refuses_ends_in_one_sentence_of_our_own(error, said, tmp_path, monkeypatch, capsys):
    def job(config, folder):
        raise error

    monkeypatch.setattr(sys, "argv", ["train.py", "env=random_walk", f"hydra.run.dir={tmp_path / 'run'}"])
    assert command_line.launch("train", job, claim=False) == 1
    assert capsys.readouterr().err.splitlines()[0].startswith(f"error: {said}")


LIMITED = """
import resource, sys
import numba
from pathlib import Path
from rlnet.commands import solve, train
from rlnet.experiment import problem, solve_job
from rlnet.learning import training_loop
kind, most = sys.argv.pop(1), int(sys.argv.pop(1))
if kind == "RLIMIT_AS":
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most += pages * resource.getpagesize()
resource.setrlimit(getattr(resource, kind), (most, most))
sys.exit((solve if sys.argv.pop(1) == "solve" else train).main())
"""


def limited(kind: str, most: int, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    """`rlnet ...` in a process whose files, or whose memory beyond what its imports took, may have so many bytes."""
    command = [sys.executable, "-c", LIMITED, kind, str(most), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_a_program_whose_files_may_not_grow_says_one_sentence(tmp_path):
    options = ("env=random_walk", "network=tabular", "steps=20000", "log_every=40", "checkpoint_every=2000")
    done = limited("RLIMIT_FSIZE", 120_000, "train", *options, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if " steps/s" not in line]
    assert lines == ["error: run/events.out.tfevents.*: File too large"], done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("states", [500_000, 5_000_000])
@pytest.mark.slow
def test_a_program_whose_memory_is_limited_says_one_sentence(states, tmp_path):
    """What is sure to be too much is refused at once; what is not is tried."""
    options = ("env=random_walk", f"env.length={states}", "hydra.run.dir=run")
    done = limited("RLIMIT_AS", 230 * 2**20, "solve", *options, cwd=tmp_path)
    tried = states == 500_000
    assert done.returncode == (1 if tried else 2), done.stderr
    said = "there is not enough memory" if tried else f"env.length={states} env.jump=1: needs about"
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith(f"error: {said}")


@pytest.mark.parametrize(
    ("overrides", "name", "few", "enough", "said"),
    [
        # 1000 states × 2 actions × 40 members × (8 visits + 32 scored + 20 a table)
        (("seeds=40", "network=tabular"), "train", 4.7e6, 4.9e6, r"1000 states × 2 actions × 40 members: "),
        (("seeds=40", "network=linear"), "train", 3.1e6, 3.3e6, r"1000 states × 2 actions × 40 members: "),
        (("vary.gamma=[0.1,0.2,0.3]",), "train", 95e3, 1e6, r"1000 states × 2 actions: "),  # three solutions
        ((), "solve", 31e3, 33e3, r"1000 states × 2 actions: "),
    ],
)
def test_tables_of_all_members_and_of_all_problems_are_counted(
    overrides, name, few, enough, said, tmp_path, monkeypatch
):
    config = composed("env=random_walk", "env.length=1000", *overrides, name=name)
    use = build if name == "train" else lambda config: solve_and_write(config, tmp_path)
    monkeypatch.setattr(memory, "available", lambda: few)
    with pytest.raises(ConfigError, match=rf"^env=random_walk: {said}needs about"):
        use(config)
    monkeypatch.setattr(memory, "available", lambda: enough)
    use(config)


def test_an_audit_counts_its_environments_and_keeps_few_of_its_steps(monkeypatch):
    with pytest.raises(ConfigError, match=r"^envs=1000000000000: needs about"):
        composed("env=random_walk", "envs=1000000000000", name="audit")
    environment = make(composed("env=random_walk", "env.length=5").env)

    def gathered() -> evidence.Evidence:
        source = PopulationSource("population", environment.simulate([0, 1], 3))
        return evidence.gather(environment.mdp, source, None, 2000, seed=0)

    whole = gathered()
    monkeypatch.setattr(evidence, "PIECE", 50)
    longest, go = [], evidence._Walk.go
    monkeypatch.setattr(evidence._Walk, "go", lambda walk, c, u, t: (longest.append(u.size), go(walk, c, u, t)))
    assert gathered() == whole
    assert max(longest) <= 50
    assert sum(longest) >= 2000
    assert np.isfinite(whole.steps)
