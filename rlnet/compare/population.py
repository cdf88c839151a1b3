"""The verdict on a population: failures of single members, aggregates over the others, the best setting.

Only settings of one problem (the same γ, the same temperature) are ranked, and none is called better than another
where the runs show no difference beyond chance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from rlnet.compare.member_failures import Mishap, told
from rlnet.compare.names import LOSSES
from rlnet.compare.ranking import MOST_TOLD, less_is_better, rank, rank_sentence, ranked_by
from rlnet.compare.scores import NOTHING
from rlnet.compare.sentence import policy_name, sentence
from rlnet.numerics.statistics import INTERQUARTILE, aggregate

VERBS = {
    "exact/nash_conv": "can be exploited",
    "exact/nash_conv_search": "can be exploited with search",
    "exact/regret": "could earn more",
    "exact/regret_search": "could earn more with search",
}  # a loss → what is true of a member that has one


@dataclass(frozen=True)
class Population:
    """Scores of a population to be judged: K settings, n seeds each, M = K·n members."""

    settings: Sequence[Mapping[str, float]]  # [K]
    seeds: Sequence[int]  # [n]
    problems: Sequence[str]  # [K], equal where settings are comparable, e.g. "γ = 0.9"
    scalars: Mapping[str, np.ndarray] = field(repr=False)  # [M] each
    mishaps: Sequence[Mishap] = field(repr=False)  # [M]
    against: str  # as in `rlnet.compare`
    judged: str

    def of(self, k: int) -> tuple[dict[str, np.ndarray], list[Mishap]]:
        """Scores and failures of the members of setting k."""
        own = slice(k * len(self.seeds), (k + 1) * len(self.seeds))
        return {name: values[own] for name, values in self.scalars.items()}, list(self.mishaps[own])


def setting_name(setting: Mapping[str, float]) -> str:
    """The name of a setting: `gamma=0.9, optimizer.learning_rate=0.1`."""
    return ", ".join(f"{key}={value:.12g}" for key, value in setting.items())


def each_verdict(population: Population) -> list[dict[str, Any]]:
    """For each setting: its problem, the verdict on it, and its aggregate over seeds."""
    rows = []
    for k, setting in enumerate(population.settings):
        scalars, _ = population.of(k)
        rows.append(
            {
                "settings": setting,
                "problem": population.problems[k],
                "verdict": _of_setting(population, k),
                "aggregate": aggregate(scalars),
            }
        )
    return rows


def overall_verdict(population: Population) -> str:
    """The verdict on all settings: of one its own; of several the failures and the best, problem by problem."""
    count = len(population.settings)
    if count == 1:
        return _of_setting(population, 0)
    parts = _mishaps_of_settings(population)
    groups = {name: [k for k in range(count) if population.problems[k] == name] for name in population.problems}
    if len(groups) > 1:
        parts.append(f"{len(groups)} problems ({'; '.join(groups)}) are not ranked against each other")
    said = [". ".join(map(_begun, parts)) + "."] if parts else []
    for problem, members in groups.items():
        head = f"At {problem}: " if len(groups) > 1 else ""
        said.append(head + _best_of(population, members, bool(head)))
    return " ".join(said)


def _begun(clause: str) -> str:
    """A clause with a capital at its beginning, unless that is the name of a key."""
    return clause if "=" in clause.partition(" ")[0] else clause[:1].upper() + clause[1:]


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
    middles = {name: cast(float, row["iqm"]) for name, row in table.items()}
    return sentence(middles, population.against, population.judged) + _exceptions(scalars, middles, chosen)


def _exceptions(scalars: Mapping[str, np.ndarray], middles: Mapping[str, float], chosen: Sequence[int]) -> str:
    """The members that lose something where the interquartile mean says that nothing is lost; empty: there are none."""
    said = []
    for name, verb in VERBS.items():
        if name not in scalars or ("nash" not in name and "exact/nash_conv" in scalars):
            continue
        least = NOTHING * max(abs(middles.get("exact/optimal_return", 0.0)), 1.0)
        own = scalars[name][list(chosen)]
        some = own > least
        if middles[name] <= least and some.any():
            said.append(f" {int(some.sum())} of {len(own)} {verb}, the worst by {own.max():.3g}.")
    return "".join(said)


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
    names = [setting_name(population.settings[k]) for k in members]
    verdicts = [_of_setting(population, k) for k in members]
    if len(members) == 1:
        return f"{names[0]}: {verdicts[0]}" if named else verdicts[0]
    score = ranked_by(population.scalars, population.judged == "given")
    found = rank([population.of(k)[0][score] for k in members], score)
    best = found.order[0]
    return f"{rank_sentence(found, names, score, len(population.seeds))} {names[best]}: {verdicts[best]}"


def drawn(members: Sequence[Mapping[str, Any]], each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The representative member whose states are drawn, and the score that chose it: {member, by, name}.

    Of the settings of the first problem it is that with the best interquartile mean, though it need not be better than
    others beyond chance; of its members that whose score is the median: of the regret, or, where that is the same for
    all or a given policy was predicted, of the error of V.

    Args:
        members, each: as `members` and `settings` in comparison.json.
    """
    prediction = not set(LOSSES) & set(members[0]["scores"])
    group = [k for k, row in enumerate(each) if row.get("problem") == each[0].get("problem")]
    names = members[0]["scores"]
    seeds = len(members) // len(each)
    scores = {name: np.array([float(member["scores"][name]) for member in members]) for name in names}
    score = ranked_by(scores, prediction)
    best = group[rank([scores[score][k * seeds :][:seeds] for k in group], score).order[0]]
    candidates = members[best * seeds :][:seeds]
    for by in [name for name in (*LOSSES, "exact/v_rmse") if name in names] or ["exact/v_rmse"]:
        own = np.array([float(member["scores"].get(by, 0.0)) for member in candidates])
        if (own != own[0]).any():
            break
    chosen = candidates[int(np.argsort(own, kind="stable")[(seeds - 1) // 2])]
    if len(members) == 1:
        return {"member": 0, "by": by, "name": ""}
    setting = f", {setting_name(each[best]['settings'])}" if each[best]["settings"] else ""
    if seeds > 1:
        why = f"median {by.removeprefix('exact/')} of {seeds}"
    elif len(group) > 1:
        why = f"{'smallest' if less_is_better(score) else 'highest'} {score.removeprefix('exact/')} of {len(group)}"
    else:
        why = "the first problem"
    return {"member": chosen["member"], "by": by, "name": f"seed {chosen['seed']}{setting} ({why})"}
