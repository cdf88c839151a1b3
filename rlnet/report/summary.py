"""Terminal summaries of the commands: scores, and learned values beside the truth."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rich.console import Console

from rlnet.compare import AGAINST_OPTIMAL
from rlnet.compare.names import LOSSES, is_of_event
from rlnet.compare.risk import risks_of
from rlnet.config import Config
from rlnet.config.files import printable, read_rows
from rlnet.config.population import settings
from rlnet.experiment.comparison_files import JUDGED, Rescored, Scored, objective
from rlnet.experiment.solve_job import Solved
from rlnet.report.completions import show_completions
from rlnet.report.panels import Panel, learned_and_exact
from rlnet.report.sampled import beside_exact
from rlnet.report.terminal import show_files, show_scores, show_values, written
from rlnet.report.text import say

MAIN_SCORES = (
    "exact/return",
    "exact/optimal_return",
    "exact/regret",
    "exact/nash_conv",
    "exact/nash_conv_search",
    "exact/regret_search",
    "exact/optimal_action_rate",
    "exact/optimal_action_rate_search",
    "exact/constrained_return",
    "exact/constrained_optimal_return",
    "exact/constraint_gap",
    "exact/constraint_excess",
    "exact/constraint_multiplier",
    "exact/reward",
    "exact/true_reward",
    "exact/kl",
    "exact/frontier_gap",
    "exact/pass@1",
    "exact/pass@8",
    "exact/entropy",
    "exact/limited_return",
    "exact/limited_optimal_return",
    "exact/v_rmse",
    "exact/v_max",
    "exact/v_bound",
    "exact/q_rmse",
    "exact/q_max",
    "exact/q_bound",
    "exact/q_bias",
    "exact/q_bias_own",
    "exact/bellman_residual",
    "exact/coverage",
)

# Of each setting, side by side:
UNDER_CONSTRAINT = ("exact/constraint_gap", "exact/constraint_excess")
BRIEF_SCORES = ("exact/return", *LOSSES, *UNDER_CONSTRAINT, "exact/v_rmse", "exact/q_rmse")


def show_run(config: Config, scored: Scored | None, files: list[Path]) -> None:
    """Print scores, learned and exact values, and the files of a run that has just finished.

    Args:
        config: of the run.
        scored: its final scores; None without a finite model: then the last row of its log is shown.
        files: metrics.csv first.
    """
    console = Console()
    if scored is not None:
        _show_exact(console, scored, files[0].parent)
    else:
        _show_last_row(console, config, files[0])
    show_files(console, files)


def show_rescored(result: Rescored, folder: Path) -> None:
    """Print the scores of a finished run, computed again, and whether they equal those in comparison.json."""
    console = Console()
    _show_exact(console, result, folder)
    console.print(
        f"Scored again from {printable(str(folder))}: the largest relative difference from comparison.json is "
        f"{result.difference:.1e}.",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )


def show_solution(solved: Solved) -> None:
    """Print the exact values and optimal actions of every state, the method and the file."""
    console, solution, config = Console(), solved.solution, solved.config
    v, policy, limit = solution.v, solution.policy, ""
    if config.horizon is not None:  # what is shown is the first of the H steps
        v, limit = v[0], f" horizon={config.horizon}"
        policy = policy[0] if config.horizon > 0 else np.zeros((len(v), solved.mdp.n_actions))
    if config.temperature > 0:
        limit += f" temperature={config.temperature:g}"
    show_values(console, solved.mdp, [Panel("approximate V*" if solved.approximation else "exact V*", v, policy)])
    of = "of the grid " if solved.approximation else ""
    found = f"method=auto picked {solution.method}" if config.method == "auto" else f"by {solution.method}"
    console.print(
        f"{config.env.title()} gamma={solution.gamma:g}{limit}: J* = {solved.mdp.start @ v:.6g}; every V* {of}within "
        f"{solution.error_bound:.1e}, {found} in {1e3 * solution.seconds:.1f} ms, {solution.sweeps} sweeps",
        soft_wrap=True,
        highlight=False,
    )
    if config.horizon is None or solved.mdp.sign is None:
        steps = config.env.max_episode_steps if config.horizon is None else config.horizon
        for risk in risks_of(solved.mdp, solution, steps):
            where = "ever" if risk.horizon is None else f"within {risk.horizon} steps"
            least = f"{risk.least:.4g} at the least"
            said = f"P({risk.event} {where}) = {risk.of_optimal:.4g} under the optimal policy, {least}."
            console.print(said, soft_wrap=True, highlight=False, markup=False)
    if solved.approximation:
        say(console, f"{solved.approximation[:1].upper()}{solved.approximation[1:]}.")
    if not solution.converged:
        why = "Interrupted: these are the best values so far" if solution.interrupted else "The tolerance was not met"
        console.print(f"{why} (tol={config.tol:g} was asked for).", soft_wrap=True, highlight=False)
    show_files(console, [solved.file])


def _show_exact(console: Console, result: Scored, folder: Path) -> None:
    config, problem, values = result.config, result.problem, result.values
    grid = settings(config)
    note = f", {result.drawn['name']}" if result.drawn["name"] else ""
    if problem.completions is not None:
        show_completions(console, problem.mdp, problem.completions, values, result.drawn["member"], note)
    elif "v" not in values:
        say(console, f"algo={config.algo.name} learns no values: its policy alone is compared")
    else:
        _show_values(console, result, note)
    reference = "V*, Q*" if problem.against == AGAINST_OPTIMAL else "V^π, Q^π"
    kind = "approximate" if problem.approximation else "exact"
    gammas = ", ".join(f"{gamma:g}" for gamma in dict.fromkeys(solution.gamma for solution in problem.exact))
    title = f"{config.algo.name} on {config.env.label}, γ = {gammas}, against the {kind} {reference}"
    notes = {"π": JUDGED[problem.algorithm.judged]}
    if problem.exact[0].temperature > 0:
        notes["values of"] = objective(problem)
    shown = [*MAIN_SCORES, *(name for name in result.scalars if is_of_event(name))]
    scores = {name: result.scalars[name] for name in shown if name in result.scalars}
    show_scores(console, title, scores, notes)
    if len(grid) == 1:
        value = float(np.mean(result.scalars["exact/return"]))
        training = beside_exact(read_rows(folder / "metrics.csv"), value, objective(problem))
        if training:
            say(console, training)
    say(console, result.verdict)
    if len(grid) > 1:
        _show_settings(console, grid, {name: scores[name] for name in BRIEF_SCORES if name in scores}, config.seeds)


def _show_values(console: Console, result: Scored, note: str) -> None:
    """Learned and exact values of the member that is drawn."""
    problem, values = result.problem, result.values
    v, v_exact, pi, pi_exact = (values[name][result.drawn["member"]] for name in ("v", "v_exact", "pi", "pi_exact"))
    show_values(
        console, problem.mdp, learned_and_exact(v, v_exact, pi, pi_exact, problem.against, note, problem.approximation)
    )


def _show_settings(
    console: Console, grid: list[dict[str, float]], scores: Mapping[str, np.ndarray], seeds: int
) -> None:
    """A row for each setting of `vary`: means over its seeds."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = "each setting" + (f": means over {seeds} seeds" if seeds > 1 else "")
    table = Table(title=Text(title), box=box.SIMPLE, title_justify="left", title_style="bold")
    for name in (*grid[0], *scores):
        table.add_column(name.removeprefix("exact/"), justify="right")
    for k, setting in enumerate(grid):
        means = (written(name, float(np.mean(values[k * seeds :][:seeds]))) for name, values in scores.items())
        table.add_row(*(f"{value:g}" for value in setting.values()), *means)
    console.print(table)


def _show_last_row(console: Console, config: Config, path: Path) -> None:
    """Print the last logged scalars of each member, for environments without a finite model."""
    last = list({row["member"]: row for row in read_rows(path)}.values())
    steps = sorted({int(row["step"]) for row in last})  # members whose updates are whole episodes end at different ones
    grid = settings(config)
    names = [name for name in last[0] if name not in ("step", "member", "seed", *grid[0])]
    scores = {name: np.array([float(row[name] or "nan") for row in last]) for name in names}
    show_scores(
        console,
        f"after {' to '.join(map(str, dict.fromkeys((steps[0], steps[-1]))))} steps",
        scores,
        {"no finite model": "there is nothing exact to compare with"},
    )
    if len(grid) > 1:
        brief: dict[str, np.ndarray] = {n: scores[n] for n in ("return/mean", "episode/length") if n in scores}
        _show_settings(console, grid, brief, config.seeds)
