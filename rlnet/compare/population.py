"""The verdict on a population: what went wrong with single members first, then the others, then which setting is best.

Only settings of one problem (the same γ, the same temperature) are ranked, and none is called better than another
where the runs show no difference beyond chance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rlnet.compare.mishaps import Mishap, told
from rlnet.compare.sentence import policy_name, sentence
from rlnet.numerics.statistics import INTERQUARTILE, aggregate, ranking

MOST_TOLD = 3  # settings whose mishaps the overall verdict tells


@dataclass(frozen=True)
class Population:
    """What a verdict is made from: K settings, n seeds each, M = K·n members."""

    settings: Sequence[Mapping[str, float]]  # [K]
    seeds: Sequence[int]  # [n]
    problems: Sequence[str]  # [K], equal where settings are comparable, e.g. "γ = 0.9"
    scalars: Mapping[str, np.ndarray] = field(repr=False)  # [M] each
    mishaps: Sequence[Mishap] = field(repr=False)  # [M]
    against: str  # as in `rlnet.compare`
    judged: str

    def of(self, k: int) -> tuple[dict[str, np.ndarray], list[Mishap]]:
        """(the scores, the mishaps) of the members of setting k."""
        own = slice(k * len(self.seeds), (k + 1) * len(self.seeds))
        return {name: values[own] for name, values in self.scalars.items()}, list(self.mishaps[own])


def setting_name(setting: Mapping[str, float]) -> str:
    """`gamma=0.9, optimizer.learning_rate=0.1`."""
    return ", ".join(f"{key}={value:g}" for key, value in setting.items())


def each_verdict(population: Population) -> list[dict[str, Any]]:
    """For each setting: its aggregate over seeds, and the verdict on it."""
    rows = []
    for k, setting in enumerate(population.settings):
        scalars, _ = population.of(k)
        rows.append({"settings": setting, "verdict": _of_setting(population, k), "aggregate": aggregate(scalars)})
    return rows


def overall_verdict(population: Population) -> str:
    """The verdict on the only setting; of several, what went wrong and which is best, problem by problem."""
    count = len(population.settings)
    if count == 1:
        return _of_setting(population, 0)
    parts = _mishaps_of_settings(population)
    groups = {name: [k for k in range(count) if population.problems[k] == name] for name in population.problems}
    if len(groups) > 1:
        parts.append(f"{len(groups)} problems ({'; '.join(groups)}) are not ranked against each other")
    said = [". ".join(part[:1].upper() + part[1:] for part in parts) + "."] if parts else []
    for problem, members in groups.items():
        head = f"At {problem}: " if len(groups) > 1 else ""
        said.append(head + _best_of(population, members, bool(head)))
    return " ".join(said)


def _of_setting(population: Population, k: int) -> str:
    """The mishaps of single members by seed, then the means over the others."""
    scalars, mishaps = population.of(k)
    sound = [i for i, mishap in enumerate(mishaps) if mishap.sound]
    if not sound:  # the values of those that did not diverge can still be compared
        sound = [i for i, mishap in enumerate(mishaps) if not mishap.diverged] or list(range(len(mishaps)))
        mishaps = [m if m.diverged or m.idle else Mishap() for m in mishaps]  # the sentence says what is endless
    said = told(mishaps, population.seeds, policy_name(population.judged))
    text = "".join(f"{part[:1].upper()}{part[1:]}. " for part in said)
    return text + _over(sound, len(mishaps)) + _sentence(population, scalars, sound)


def _over(chosen: Sequence[int], members: int) -> str:
    if members == 1:
        return ""
    means = "interquartile means" if len(chosen) >= INTERQUARTILE else "means"
    if len(chosen) == members:
        return f"Over {members} seeds ({means}): "
    return f"The other {len(chosen)} seeds ({means}): " if len(chosen) > 1 else "The other seed: "


def _sentence(population: Population, scalars: Mapping[str, np.ndarray], chosen: Sequence[int]) -> str:
    table = aggregate({name: values[list(chosen)] for name, values in scalars.items()})
    return sentence({name: row["iqm"] for name, row in table.items()}, population.against, population.judged)


def _mishaps_of_settings(population: Population) -> list[str]:
    """One clause for each setting in which something went wrong."""
    found = []
    for k, setting in enumerate(population.settings):
        said = told(population.of(k)[1], population.seeds, policy_name(population.judged))
        if said:
            found.append(f"{setting_name(setting)}: {'; '.join(said)}")
    if len(found) > MOST_TOLD:
        found = [*found[:MOST_TOLD], f"something went wrong in {len(found) - MOST_TOLD} more settings, listed below"]
    return found


def _best_of(population: Population, members: Sequence[int], named: bool) -> str:
    """Which of comparable settings is best, as far as the runs can show, and the verdict on it."""
    prediction = population.judged == "given"
    names = [setting_name(population.settings[k]) for k in members]
    verdicts = [_of_setting(population, k) for k in members]
    if len(members) == 1:
        return f"{names[0]}: {verdicts[0]}" if named else verdicts[0]
    score = "exact/v_relative" if prediction else "exact/normalised_return"
    sign = -1.0 if prediction else 1.0
    found = ranking([[sign * population.of(k)[0][score]] for k in members])
    first, goal = found.order[0], "V^π" if prediction else "the optimum"
    return (
        f"{rank_sentence(found, names, f'comes nearest to {goal}', len(population.seeds))} {names[first]}: "
        + (verdicts[first])
    )


def drawn(members: Sequence[Mapping[str, Any]], each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The one member whose states are drawn everywhere, and the score by which it was chosen: {member, by, name}.

    Of the setting with the best interquartile mean it is the member whose score is the median: of the regret, or, where
    that is the same for all or a given policy was predicted, of the error of V.

    Args:
        members, each: as in comparison.json.
    """
    prediction = "exact/regret" not in members[0]["scores"]
    score = "exact/v_relative" if prediction else "exact/normalised_return"
    reached = np.array([float(row["aggregate"].get(score, {"iqm": "nan"})["iqm"]) for row in each])
    best = each[int(np.argmax(np.nan_to_num(-reached if prediction else reached, nan=-np.inf)))]["settings"]
    candidates = [member for member in members if member["settings"] == best]
    for by in ("exact/regret", "exact/v_rmse"):
        scores = np.array([float(member["scores"].get(by, 0.0)) for member in candidates])
        if (scores != scores[0]).any():
            break
    chosen = candidates[int(np.argsort(scores, kind="stable")[(len(scores) - 1) // 2])]
    if len(members) == 1:
        return {"member": 0, "by": by, "name": ""}
    own = f", {setting_name(best)}" if best else ""
    why = f"median {by.removeprefix('exact/')} of {len(candidates)}" if len(candidates) > 1 else "the best setting"
    return {"member": chosen["member"], "by": by, "name": f"seed {chosen['seed']}{own} ({why})"}


def rank_sentence(found: Any, names: Sequence[str], does: str, runs: int) -> str:
    """What a `Ranking` of named settings shows, as one sentence.

    Args:
        found: the `rlnet.numerics.statistics.Ranking` of them.
        names: of the settings.
        does: what the best one does, e.g. "comes nearest to the optimum".
        runs: of a setting with the fewest.
    """
    first, count = names[found.order[0]], len(names)
    if not found.ties:
        return f"Of {count} settings, {first} {does}."
    advice = "" if runs >= 4 else f" ({'one run' if runs == 1 else f'{runs} runs'} of each; more seeds would tell more)"
    if not found.beaten:
        return f"Between the {count} settings there is no difference that these runs can show{advice}."
    ties = ", ".join(names[k] for k in found.ties[:MOST_TOLD]) + (", ..." if len(found.ties) > MOST_TOLD else "")
    beaten = ", ".join(names[k] for k in found.beaten[:MOST_TOLD]) + (", ..." if len(found.beaten) > MOST_TOLD else "")
    return f"Of {count} settings, {first} is better than {beaten}; from {ties} no difference that these runs can show."
