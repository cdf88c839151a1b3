"""Mutation tests with classic bugs of RL code: do exact checks catch each, and would the return curve have shown it?

Each mutation replaces a piece of a copy of the source. The checks are a few quick tests of this project, chosen for the
mutation. The return curve is the mean return in the last quarter of a training run, over a population of seeds; it
"shows" a mutation where the mutated one is worse at the 1 % level of Welch's t-test, one-sided, or does not run at all.
In games of two players, whose return in self-play says nothing, the share of games won against a random player takes
its place, and stands beside the exact exploitability.
"""

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.stats import ttest_ind

from rlnet.bench.self_play import GAMES, Strength, strength
from rlnet.numerics.statistics import wilson

ROOT = Path(__file__).parents[2]
COPIED = ("rlnet", "configs", "scripts", "tests", "pyproject.toml")
SEEDS, LEVEL = 16, 0.01
PASSED, FAILED, INTERNAL = 0, 1, 2  # exit codes of pytest; 2 is also what a module that cannot be imported gives


class MutationError(RuntimeError):
    """A mutation that no longer fits the source, or a check that fails without any."""


@dataclass(frozen=True)
class Mutation:
    """A bug. `edits` are (file, text, replacement); the text must stand in the file exactly once."""

    name: str
    edits: tuple[tuple[str, str, str], ...]
    checks: tuple[str, ...]  # arguments of pytest
    train: tuple[str, ...]  # overrides of scripts/train.py whose return curve is looked at; () where none is touched
    plays: tuple[str, ...] = ()  # in place of `train`: those of a board game, in which the learned policy is judged

    @property
    def files(self) -> set[str]:
        """The files that change."""
        return {file for file, _, _ in self.edits}


@dataclass(frozen=True)
class Row:
    """Result of a mutation: whether the checks caught it, and whether the return, or the win rate, showed it."""

    name: str
    caught: bool
    shown: bool | None  # None: no learner whose return it could change
    algo: str
    healthy: float | None  # mean return, or share of games won, without it
    mutated: float | None  # NaN where the run failed
    exploited: bool | None = None  # of games: whether NashConv showed it
    nash_conv: tuple[float, float] | None = None  # mean without and with it; NaN where the run failed
    games: int = 0  # against a random player


def check_texts(mutations: Sequence[Mutation], root: Path = ROOT) -> None:
    """Raise MutationError, naming all of them, where a text does not stand in its file exactly once."""
    stale = []
    for mutation in mutations:
        for file, text, new in mutation.edits:
            path = root / file
            count = path.read_text(encoding="utf-8").count(text) if path.is_file() else 0
            if count != 1 or text == new:
                stale.append(f"{mutation.name}: {text!r} stands {count} times in {file}")
    if stale:
        raise MutationError("mutations that no longer fit the source:\n" + "\n".join(stale))


@contextmanager
def copied() -> Iterator[Path]:
    """A temporary copy of the source."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for item in COPIED:
            if (ROOT / item).is_dir():
                shutil.copytree(ROOT / item, folder / item, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / item, folder / item)
        yield folder


@contextmanager
def applied(mutation: Mutation, folder: Path) -> Iterator[None]:
    """The mutation in a copy of the source, taken back at the end."""
    before = {file: (folder / file).read_text(encoding="utf-8") for file in mutation.files}
    try:
        for file, text, new in mutation.edits:
            path = folder / file
            path.write_text(path.read_text(encoding="utf-8").replace(text, new), encoding="utf-8")
        yield
    finally:
        for file, content in before.items():
            (folder / file).write_text(content, encoding="utf-8")


def _run(folder: Path, *command: str) -> subprocess.CompletedProcess:
    # No .pyc files: an edit within the same second and of the same length would not be seen.
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def checks_fail(folder: Path, checks: Sequence[str]) -> bool:
    """Whether one of the checks, long tests among them, fails in a copy of the source.

    Raises:
        MutationError: the checks cannot be run, or select nothing.
    """
    options = ("-q", "-x", "-n0", "-p", "no:cacheprovider", "--durations=0", "-m", "slow or not slow")
    done = _run(folder, "-m", "pytest", *options, *checks)
    if done.returncode not in (PASSED, FAILED):
        raise MutationError(f"{' '.join(checks)}: pytest ended with {done.returncode}\n{done.stdout[-2000:]}")
    return done.returncode == FAILED


def returns(folder: Path, overrides: Sequence[str]) -> np.ndarray | None:
    """The mean return of each seed in the last quarter of a training run [SEEDS]; None where it does not run."""
    with tempfile.TemporaryDirectory() as out:
        every = ("log_every=2000", "compare_every=1000000000", "checkpoint_every=1000000000")
        options = (f"seeds={SEEDS}", *every, *overrides, f"hydra.run.dir={out}")
        done = _run(folder, "scripts/train.py", *options)
        if done.returncode != 0:
            return None
        with (Path(out) / "metrics.csv").open(newline="", encoding="utf-8") as file:
            rows = [(int(r["member"]), int(r["step"]), float(r["return/mean"] or "nan")) for r in csv.DictReader(file)]
    last = max(step for _, step, _ in rows)
    late = [[ret for m, step, ret in rows if m == member and step > 0.75 * last] for member in range(SEEDS)]
    with np.errstate(invalid="ignore"):
        return np.array([np.mean([x for x in one if np.isfinite(x)] or [np.nan]) for one in late])


def played(folder: Path, overrides: Sequence[str]) -> Strength | None:
    """How well each seed plays after a training run in a copy of the source; None where it does not run, or plays what
    is not legal."""
    with tempfile.TemporaryDirectory() as out:
        file = Path(out) / "policies.npy"
        if _run(folder, "-m", "rlnet.bench.self_play", str(file), *overrides).returncode != 0:
            return None
        try:
            return strength(np.load(file), overrides)
        except ValueError:
            return None


def worse(healthy: np.ndarray, mutated: np.ndarray | None) -> bool:
    """Whether the mutated returns are significantly lower; a run that fails, or has no finite return, is."""
    if mutated is None or not np.isfinite(mutated).all():
        return True
    if healthy.std() == 0 and mutated.std() == 0:  # Welch's test has no variance to work with
        return bool(mutated.mean() < healthy.mean())
    return float(ttest_ind(mutated, healthy, equal_var=False, alternative="less").pvalue) < LEVEL


def run(mutations: Sequence[Mutation], out: Path | None, only: str = "") -> list[Row]:
    """Try all mutations, print the table, and write it as JSON.

    Args:
        mutations: all of them are checked to fit the source.
        out: a JSON file; None: none.
        only: a part of the names of those to try.

    Raises:
        MutationError: a mutation does not fit the source, or its checks or its run fail without it.
    """
    check_texts(mutations)
    chosen = [mutation for mutation in mutations if only in mutation.name]
    rows: list[Row] = []
    with copied() as folder:
        healthy: dict[tuple[str, ...], np.ndarray] = {}
        strong: dict[tuple[str, ...], Strength] = {}
        for mutation in chosen:
            if checks_fail(folder, mutation.checks):
                raise MutationError(f"{mutation.name}: its checks fail without it: {' '.join(mutation.checks)}")
            if mutation.train and mutation.train not in healthy:
                found = returns(folder, mutation.train)
                if found is None or not np.isfinite(found).all():
                    raise MutationError(f"{' '.join(mutation.train)}: does not run, or ends no episode")
                healthy[mutation.train] = found
            if mutation.plays and mutation.plays not in strong:
                plays = played(folder, mutation.plays)
                if plays is None:
                    raise MutationError(f"{' '.join(mutation.plays)}: does not run")
                strong[mutation.plays] = plays
            with applied(mutation, folder):
                if mutation.plays:
                    rows.append(_tried_in_games(mutation, folder, strong[mutation.plays]))
                else:
                    rows.append(_tried(mutation, folder, healthy.get(mutation.train)))
            print(markdown(rows[-1:]).splitlines()[-1], flush=True)
    if out is not None:
        out.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    print(f"\n{markdown(rows)}\n\n{summary(rows)}")
    return rows


def _tried(mutation: Mutation, folder: Path, healthy: np.ndarray | None) -> Row:
    caught = checks_fail(folder, mutation.checks)
    if healthy is None:
        return Row(mutation.name, caught, None, "", None, None)
    algo = _algo(mutation.train)
    mutated = returns(folder, mutation.train)
    mean = float("nan") if mutated is None else float(np.mean(mutated))
    return Row(mutation.name, caught, worse(healthy, mutated), algo, float(healthy.mean()), mean)


def _tried_in_games(mutation: Mutation, folder: Path, healthy: Strength) -> Row:
    caught, mutated = checks_fail(folder, mutation.checks), played(folder, mutation.plays)
    wins, nash_conv = (np.nan, np.nan) if mutated is None else (mutated.wins.mean(), mutated.nash_conv.mean())
    return Row(
        mutation.name,
        caught,
        worse(healthy.wins, None if mutated is None else mutated.wins),
        _algo(mutation.plays),
        float(healthy.wins.mean()),
        float(wins),
        worse(-healthy.nash_conv, None if mutated is None else -mutated.nash_conv),
        (float(healthy.nash_conv.mean()), float(nash_conv)),
        GAMES * len(healthy.wins),
    )


def _algo(overrides: Sequence[str]) -> str:
    return next(item.removeprefix("algo=") for item in overrides if item.startswith("algo="))


def markdown(rows: Sequence[Row]) -> str:
    """The results as a Markdown table."""
    lines = [
        "| bug | exact checks | return curve, or win rate | without / with it |",
        "|---|---|---|---|",
    ]
    for row in rows:
        shown = {True: "shows it", False: "does not", None: "cannot"}[row.shown]
        caught = "caught" if row.caught else "**missed**"
        lines.append(f"| {row.name} | {caught} | {shown} | {'' if row.shown is None else _numbers(row)} |")
    return "\n".join(lines)


def _numbers(row: Row) -> str:
    """`algo: without / with it`, returns or shares of games won with their intervals, and NashConv."""
    assert row.healthy is not None
    failed = row.mutated is None or row.mutated != row.mutated
    if row.nash_conv is None:
        return f"{row.algo}: {row.healthy:.3g} / {'fails' if failed else f'{row.mutated:.3g}'}"
    mutated = "fails" if failed else _won(row.mutated or 0.0, row.games)
    before, after = row.nash_conv
    exploited = f"{before:.2g} / {'–' if failed else f'{after:.2g}'}" + ("" if row.exploited else ", does not show it")
    return f"{row.algo}: wins {_won(row.healthy, row.games)} / {mutated}; NashConv {exploited}"


def _won(share: float, games: int) -> str:
    """`93.1 % [91.8, 94.3]`: with Wilson's interval."""
    low, high = wilson(share * games, games)
    return f"{100 * share:.1f} % [{100 * float(low):.1f}, {100 * float(high):.1f}]"


def summary(rows: Sequence[Row]) -> str:
    """The results in one sentence or two."""
    caught, shown = sum(row.caught for row in rows), sum(row.shown is True for row in rows)
    said = f"Of {len(rows)} bugs the exact checks catch {caught}, the return curve or win rate shows {shown}."
    games = [row for row in rows if row.exploited is not None]
    if not games:
        return said
    more, less = sum(row.exploited is True for row in games), sum(row.shown is True for row in games)
    return f"{said} Of the {len(games)} in games NashConv shows {more}, the win rate against a random player {less}."
