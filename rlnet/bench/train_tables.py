"""Tables and plots of the results of `rlnet.bench.train`, and whether its goals are met."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlnet.bench.train_process import NAMES, OURS

Row = dict[str, Any]
CALLED = {OURS: "rlnet"}
TORCH = ("sb3", "cleanrl", "tianshou")  # peers on PyTorch
COMPILED = ("purejaxrl", "rejax")  # peers whose seeds are one compiled program


def show(name: str, parts: dict[str, list[Row]]) -> None:
    """Print one part, and whether it meets its goals."""
    rows = parts[name]
    for row in [row for row in rows if "failed" in row]:
        what = ", ".join(f"{key}={row[key]}" for key in ("learner", "members", "cores", "command") if key in row)
        print(f"  NOT MEASURED: {name}, {what}: {row['failed']}")
    good = [row for row in rows if "failed" not in row]
    lines = _rates(good) if name in NAMES else TABLES[name](good)
    for line in [*lines, *goals(name, good)]:
        print(f"  {line}", flush=True)


def label(learner: str) -> str:
    """The name of a learner in tables."""
    return CALLED.get(learner, learner)


def _rates(rows: list[Row]) -> list[str]:
    busy = [row["share"] for row in rows if row["cores"] == 1 and row["share"] < 0.9]
    noisy = f"the machine was not quiet: learners got down to {100 * min(busy, default=1):.0f} % of their one core"
    return [noisy] * bool(busy) + [
        f"{NAMES[row['kind']]:20} {row['cores']} core{'s' if row['cores'] > 1 else ' '} {label(row['learner']):10}"
        f" M = {row['members']:3} {row['steps_per_second']:10,.0f} steps/s ({row['least']:,.0f} to {row['most']:,.0f})"
        f"  {1e6 / row['steps_per_second']:7.2f} µs for a step of a member, ready after {row['ready']:.1f} s"
        for row in rows
    ]


def _by(rows: list[Row], key: str) -> dict[Any, list[Row]]:
    return {value: [row for row in rows if row[key] == value] for value in dict.fromkeys(row[key] for row in rows)}


def _whole(rows: list[Row]) -> list[str]:
    return [
        f"{label(name):10} M = {mine[0]['members']} {_median_rate(mine):10,.0f} steps/s, building and compilation"
        f" included ({', '.join(format(row['processor'], '.1f') for row in mine)} s)"
        for name, mine in _by(rows, "learner").items()
    ]


def _median_rate(rows: list[Row]) -> float:
    # One core: processor time is that of the clock, unless somebody else computes there too.
    return statistics.median(row["steps"] / row["processor"] for row in rows)


def _solve(rows: list[Row]) -> list[str]:
    lines = []
    for name, mine in _by(rows, "learner").items():
        keys = ("seconds", "processor", "steps")
        seconds, processor, steps = (statistics.median(row[key] for row in mine) for key in keys)
        missed = sum(row["reached"] < 475 for row in mine)
        lines.append(
            f"{label(name):10} {seconds:6.1f} s to 475 (processor {processor:.1f} s), after {steps:,.0f} steps "
            f"(medians of {len(mine)} seeds; "
            f"{min(row['seconds'] for row in mine):.1f} to {max(row['seconds'] for row in mine):.1f} s"
            f"{f'; {missed} never' if missed else ''})"
        )
    return lines


def _shares(rows: list[Row]) -> list[str]:
    lines = []
    for row in rows:
        parts = ", ".join(f"{part} {100 * share:.0f} %" for part, share in row["parts"].items())
        lines.append(f"{NAMES[row['kind']]}, M = {row['members']}, {row['steps_per_second']:,.0f} steps/s: {parts}")
        if "fraction" in row:
            lines.append(
                f"    its updates need {row['operations_per_second'] / 1e9:.2f} GFLOP/s of the "
                f"{row['product_rate'] / 1e9:.0f} that batched products of this size reach: "
                f"{100 * row['fraction']:.1f} % of the physical limit"
            )
    return lines


def _start(rows: list[Row]) -> list[str]:
    return [
        f"scripts/train.py {command}: {statistics.median(row['seconds'] for row in mine):.2f} s to the first update "
        f"(processor {statistics.median(row['processor'] for row in mine):.2f} s); of {', '.join(HEAVY_SAID)} loaded: "
        f"{', '.join(mine[0]['modules']) or 'none'}"
        for command, mine in _by(rows, "command").items()
    ]


HEAVY_SAID = ("matplotlib", "tensorboard", "numba", "jinja2", "torch._dynamo", "scipy.special", "...")


def _compare(rows: list[Row]) -> list[str]:
    return [
        f"{row['algo']} on {row['states']} states, {row['steps']:,} steps, compared every {row['every']:,}: "
        f"{100 * row['share']:.1f} % of the time"
        for row in rows
    ]


TABLES = {"whole": _whole, "solve": _solve, "shares": _shares, "start": _start, "compare": _compare}


def goals(name: str, rows: list[Row]) -> list[str]:
    """Whether these rows meet the goals, one line each."""
    found = _rate_goals(name, rows) if name in NAMES else OTHER_GOALS.get(name, lambda rows: [])(rows)
    return [f"goal: {text}: {value:.2f} ({'reached' if reached else 'missed'})" for text, value, reached in found]


def _rate(rows: Sequence[Row], learners: Sequence[str], members: int) -> float | None:
    """The best rate of these learners."""
    return max(
        (row["steps_per_second"] for row in rows if row["learner"] in learners and row["members"] == members),
        default=None,
    )


def _rate_goals(name: str, rows: list[Row]) -> list[tuple[str, float, bool]]:
    """On one core, and on all of them."""
    every = [[row for row in rows if row["cores"] == cores] for cores in sorted({row["cores"] for row in rows})]
    return [goal for some in every for goal in _rate_goals_of(name, some)]


def _rate_goals_of(name: str, rows: list[Row]) -> list[tuple[str, float, bool]]:
    cores, found = rows[0]["cores"], []
    where = f"{cores} core{'s' if cores > 1 else ''}: "

    def at_least(text: str, mine: float | None, theirs: float | None, goal: float) -> None:
        if mine is not None and theirs is not None:
            found.append((f"{where}{text}, at least {goal:g}×", mine / theirs, mine / theirs >= goal))

    one, many = _rate(rows, [OURS], 1), _rate(rows, [OURS], 64)
    fast = 5 if name in ("lake", "grid") else 3
    against = ["sb3"] if name in ("lake", "grid") else TORCH
    at_least(f"M = 1 over the fastest of {', '.join(against)}", one, _rate(rows, against, 1), fast)
    if name == "ppo":
        for peer in COMPILED:
            at_least(f"M = 64 over {peer}, its compilation excluded", many, _rate(rows, [peer], 64), 1)
    if name == "dqn":
        at_least("M = 64 over one CleanRL", many, _rate(rows, ["cleanrl"], 1), 25)
    most = {"ppo": 12, "grid": 4, "table": 4}.get(name)
    if most and one and many:
        found.append((f"{where}64 members cost at most {most}× one", 64 * one / many, 64 * one / many <= most))
    return found


def _whole_goals(rows: list[Row]) -> list[tuple[str, float, bool]]:
    learners = _by(rows, "learner")
    if OURS not in learners:
        return []
    mine = _median_rate(learners.pop(OURS))
    text = "M = 64 over {} with its compilation, 1.3 million steps in total, at least 1.7×"
    ratios = {peer: mine / _median_rate(theirs) for peer, theirs in learners.items()}
    return [(text.format(peer), ratio, ratio >= 1.7) for peer, ratio in ratios.items()]


def _solve_goals(rows: list[Row]) -> list[tuple[str, float, bool]]:
    times = {name: statistics.median(row["seconds"] for row in mine) for name, mine in _by(rows, "learner").items()}
    if OURS not in times or len(times) < 2:
        return []
    fastest = min((name for name in times if name != OURS), key=lambda name: times[name])
    ratio = times[OURS] / times[fastest]
    return [(f"time to 475 over that of {fastest}, at most 0.5", ratio, ratio <= 0.5)]


def _start_goals(rows: list[Row]) -> list[tuple[str, float, bool]]:
    seconds = [row["seconds"] for row in rows if row["command"] == "env=gridworld"]
    return [("seconds to the first update, at most 3", statistics.median(seconds), statistics.median(seconds) <= 3)]


def _compare_goals(rows: list[Row]) -> list[tuple[str, float, bool]]:
    return [(f"share of comparing, {row['algo']}, at most 0.1", row["share"], row["share"] <= 0.1) for row in rows]


OTHER_GOALS = {"whole": _whole_goals, "solve": _solve_goals, "start": _start_goals, "compare": _compare_goals}


def plot(parts: dict[str, list[Row]], path: Path) -> None:
    """Steps per second against M, and cost of a step of one member against M, on one core and on all."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    kinds = [kind for kind in NAMES if kind in parts]
    if not kinds:
        return
    figure, axes = plt.subplots(2, len(kinds), figsize=(4.5 * len(kinds), 7), squeeze=False)
    for (above, below), kind in zip(axes.T, kinds, strict=True):
        rows = [row for row in parts[kind] if "failed" not in row]
        for k, (learner, every) in enumerate(_by(rows, "learner").items()):
            for cores, mine in _by(every, "cores").items():
                if cores > 1 and len(mine) == 1:  # programs of one member use one core
                    continue
                members, rates = [row["members"] for row in mine], [row["steps_per_second"] for row in mine]
                style = {"marker": "o" if len(members) > 1 else "Dsvx"[k % 4], "color": f"C{k}"}
                style |= {"linewidth": 2.5 if learner == OURS else 1.2, "linestyle": "--" if cores > 1 else "-"}
                style |= {"label": label(learner) + (f", {cores} cores" if cores > 1 else "")}
                above.loglog(members, rates, **style)
                below.loglog(members, [1e6 / rate for rate in rates], **style)
        above.set(title=NAMES[kind], ylabel="steps/s of all members, learning included")
        below.set(xlabel="members M", ylabel="µs for a step of one member")
        above.legend()
        above.grid(alpha=0.3)
        below.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
