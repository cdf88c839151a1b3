"""Soak test: whether long training runs keep their memory and their speed.

Each run is a `scripts/train.py` in a process of its own, with its log, comparisons, checkpoints and report. It is
observed from outside: the steps in metrics.csv, resident memory, processor time. Exploration is constant and the first
steps do not count, since ends of episodes cost time and learning makes episodes shorter. Measure speeds on an idle
machine: other programs on the same core change even processor time by a half.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

SCRIPT = Path(__file__).parents[2] / "scripts" / "train.py"
LEARNED = 200_000  # steps after which episodes are about as long as at the end
CONSTANT = ("schedule=constant", "schedule.value=0.1")
RUNS = {
    "dqn": ("env=gridworld", "algo=dqn", *CONSTANT),
    "ppo": ("env=gridworld", "algo=ppo"),
    "q_learning": ("env=gridworld", "algo=q_learning", "network=tabular", *CONSTANT),
    "reinforce": ("env=gridworld", "algo=reinforce"),
    "acrobot": ("env=cartpole", "env.id=Acrobot-v1", "algo=a2c"),
}
PARTS = 8  # of a tenth
SLOWEST, LARGEST = 0.95, 0.02  # speed of the last tenth in that of the first; growth of memory in what there is
MIB = 2.0**20


@dataclass(frozen=True)
class Sample:
    """An observation of a process: its step, memory and processor time."""

    step: int  # the last that metrics.csv shows
    wall: float  # seconds
    cpu: float  # seconds of processor time
    memory: float  # resident, in bytes


@dataclass(frozen=True)
class Soaked:
    """Figures of a long run: growth of memory, and speed of its last tenth over that of its first."""

    name: str
    steps: int
    memory: float  # MiB, at the end
    slope: float  # MiB per million steps, by least squares over the last nine tenths
    grown: float  # MiB that this line rises over them
    first: float  # steps per second of processor time in the first tenth
    last: float  # the same in the last tenth
    wall: float  # seconds, in all

    @property
    def fine(self) -> bool:
        """Whether memory is flat and the speed is kept."""
        return self.grown <= LARGEST * self.memory and self.last >= SLOWEST * self.first


def measured(name: str, samples: list[Sample]) -> Soaked:
    """The figures of a run.

    Args:
        name: of the run.
        samples: in the order of time; those of the first `LEARNED` steps do not count.

    Raises:
        ValueError: there are too few samples with different steps in the first or in the last tenth.
    """
    seen = [sample for sample in samples if sample.step >= LEARNED]
    if not seen:
        raise ValueError(f"the run was too short to be measured: give more --steps than {LEARNED}")
    begin, end = seen[0].step, seen[-1].step
    tenth = (end - begin) / 10
    tail = [sample for sample in seen if sample.step >= begin + tenth]
    at, memory = (np.array([getattr(one, key) for one in tail], float) for key in ("step", "memory"))
    edges = (begin, begin + tenth), (end - tenth, end)
    speeds = [_speed([one for one in seen if low <= one.step <= high]) for low, high in edges]
    slope = float(np.polyfit(at, memory, 1)[0])
    numbers = memory[-1] / MIB, slope / MIB * 1e6, slope / MIB * float(at[-1] - at[0])
    return Soaked(name, end, *map(float, numbers), *speeds, wall=samples[-1].wall - samples[0].wall)


def _speed(samples: list[Sample]) -> float:
    """Steps per second of processor time: the median over `PARTS` parts, since other programs slow some of them."""
    changed = [new for old, new in pairwise(samples) if new.step > old.step]
    edges = np.unique(np.linspace(0, len(changed) - 1, PARTS + 1).astype(int)).tolist()
    parts = [(changed[first], changed[last]) for first, last in pairwise(edges)]
    if len(changed) <= PARTS or any(new.cpu == old.cpu for old, new in parts):
        raise ValueError("the run was too short to be measured: give more --steps")
    return statistics.median((new.step - old.step) / (new.cpu - old.cpu) for old, new in parts)


def run(steps: int, only: str, out: str) -> int | str:
    """Run some of `RUNS` and print their figures; exit code 0 where all are fine, 1 where one is not, or what is wrong.

    Args:
        steps: of each.
        only: names of runs, with commas; empty: all.
        out: a folder for soak.json; empty: none.
    """
    names = [name for name in RUNS if not only or name in only.split(",")]
    print("| run | steps | memory | slope per 10^6 steps | growth | steps/s of CPU, first tenth | last tenth | wall |")
    print("|---|---|---|---|---|---|---|---|")
    found = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            samples = list(_samples(RUNS[name], steps, Path(folder, "run")))
        try:
            one = measured(name, samples)
        except ValueError as error:
            return f"error: {name}: {error}"
        found.append(one)
        print(
            f"| {name} | {one.steps:,} | {one.memory:.0f} MiB | {one.slope:+.3f} MiB | {one.grown:+.2f} MiB "
            f"| {one.first:,.0f} | {one.last:,.0f} ({one.last / one.first:.1%}) | {one.wall:.0f} s |"
            f"{'' if one.fine else ' NOT FINE'}",
            flush=True,
        )
    if out:
        Path(out).mkdir(parents=True, exist_ok=True)
        Path(out, "soak.json").write_text(json.dumps([asdict(one) for one in found], indent=2), encoding="utf-8")
    return 0 if all(one.fine for one in found) else 1


def _samples(options: tuple[str, ...], steps: int, folder: Path) -> Iterator[Sample]:
    """A run, looked at four times a second until it ends.

    Raises:
        RuntimeError: it failed.
    """
    cadence = [f"steps={steps}", f"log_every={max(steps // 400, 1)}", "processes=1", "threads=1"]
    command = [sys.executable, str(SCRIPT), *options, *cadence, f"hydra.run.dir={folder}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        status = Path("/proc", str(process.pid))
        while process.poll() is None:
            try:
                fields = (status / "stat").read_text(encoding="ascii").rpartition(")")[2].split()
                pages = int((status / "statm").read_text(encoding="ascii").split()[1])
            except (OSError, IndexError):  # it has just ended
                break
            ticks = int(fields[11]) + int(fields[12])  # utime and stime, the 14th and 15th of proc(5)
            cpu, memory = ticks / os.sysconf("SC_CLK_TCK"), float(pages * os.sysconf("SC_PAGE_SIZE"))
            step = _last_step(folder / "metrics.csv")
            if step >= steps:  # it draws and writes its report now
                break
            yield Sample(step, time.monotonic(), cpu, memory)
            time.sleep(0.25)
        if process.wait() != 0:
            raise RuntimeError(f"{' '.join(options)}: ended with exit code {process.returncode}")


def _last_step(path: Path) -> int:
    """The step in the last whole line of metrics.csv; 0 where there is none."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        file.seek(max(os.fstat(file.fileno()).st_size - 4096, 0))
        lines = file.read().split(b"\n")
    step = lines[-2].partition(b",")[0] if len(lines) > 2 else b""
    return int(step) if step.isdigit() else 0
