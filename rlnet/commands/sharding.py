"""Shards of one run: the arguments of a sweep whose jobs are the parts of a population, to be merged at its end.

`seeds=100000 shards=200` becomes `-m seeds=500 seed=0,500,...` in the folder `shards` below that of the run.
"""

from collections.abc import Sequence
from pathlib import Path

from rlnet.commands.arguments import SEVERAL, readable
from rlnet.config import ConfigError
from rlnet.config.files import check_folder
from rlnet.experiment.run_folder import override_key
from rlnet.experiment.sweeps import FINISHED, check_same, planned

SHARDS, SIZE = "shards", "shard_size"
FOLDER = "shards"  # of the sweep, below that of the run
LARGEST = 500  # seeds of a shard, where a launcher is named and nothing else is said
LEAST = 4  # shards of a size that nobody named have at least one LEAST-th of the seeds that they might have


def split(argv: Sequence[str]) -> list[str] | None:
    """The arguments of the sweep of shards; None where the run is one.

    Raises:
        ConfigError: the seeds cannot be divided like that, or what is asked for is not one run.
    """
    items = readable(list(argv))
    given = {override_key(item): item.partition("=")[2] for item in items if "=" in item}
    asked = [key for key in (SHARDS, SIZE) if key in given]
    several = SEVERAL & set(items)
    if not asked and (several or "hydra/launcher" not in given or not given.get("seeds", "").isdecimal()):
        return None
    if asked:
        _check(given, asked, bool(several))
    seeds, first = _number("seeds", given["seeds"], 1), _number("seed", given.get("seed", "0"), 0)
    count = _count(given, seeds)
    own = [item for item in items if override_key(item) not in (SHARDS, SIZE)]
    if count == 1:
        return own if asked else None
    each = seeds // count
    begins = ",".join(str(first + k * each) for k in range(count))
    own = [item for item in own if override_key(item) not in ("seed", "seeds", "hydra.sweep.dir")]
    return ["-m", *own, f"seeds={each}", f"seed={begins}", "hydra.sweep.dir='${hydra.run.dir}/" + FOLDER + "'"]


def _check(given: dict[str, str], asked: Sequence[str], several: bool) -> None:
    """Raise ConfigError where shards are asked for and the job is not one run that begins."""
    said = f"{asked[0]}={given[asked[0]]}"
    if len(asked) > 1:
        raise ConfigError(f"{said} {SIZE}={given[SIZE]}: give one of them, the other one follows")
    if several:
        raise ConfigError(f"{said}: divides one run, and -m asks for several; leave out one of them")
    if "hydra.sweep.dir" in given:
        raise ConfigError(
            f"hydra.sweep.dir={given['hydra.sweep.dir']}: name the folder of a run in shards by hydra.run.dir"
        )
    for key in ("resume", "search"):
        if given.get(key, "null") != "null":
            raise ConfigError(
                f"{said} {key}={given[key]}: is not supported; the same command again goes on with its shards"
            )
    if "seeds" not in given:
        raise ConfigError(f"{said}: say how many seeds there are, as in seeds=100000")


def _count(given: dict[str, str], seeds: int) -> int:
    """How many shards of equal size there are to be."""
    divisors = _divisors(seeds)
    if SHARDS in given:
        count = _number(SHARDS, given[SHARDS], 1)
        if count > seeds:
            raise ConfigError(f"{SHARDS}={count}: must be at most seeds={seeds}")
        if seeds % count:
            near = [str(min(k for k in divisors if k > count)), str(max(k for k in divisors if k < count))]
            raise ConfigError(
                f"{SHARDS}={count}: must divide seeds={seeds} into equal parts, as {' or '.join(near)} do"
            )
        return count
    most = _number(SIZE, given[SIZE], 1) if SIZE in given else LARGEST
    count = min(k for k in divisors if seeds <= k * most)
    if count > 1 and seeds // count * LEAST < most:
        more = -(-seeds // most) * most
        raise ConfigError(f"seeds={seeds}: cannot be divided into equal shards of about {most} seeds; seeds={more} can")
    return count


def _divisors(number: int) -> list[int]:
    small = [k for k in range(1, int(number**0.5) + 1) if number % k == 0]
    return sorted({*small, *(number // k for k in small)})


def _number(key: str, text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise ConfigError(f"{key}={text}: must be a whole number of at least {least}")
    return int(text)


def merge_finished(sweep: Path) -> None:
    """Merge the shards in the folder of their sweep into the folder above it, once all of them are finished."""
    from rlnet.commands.merge import merged
    from rlnet.experiment.shards import joint

    jobs, folder = planned(sweep), sweep.parent
    if any(one.state != FINISHED for one in jobs):
        return
    check_folder(sweep)
    if (folder / "metrics.csv").is_file():
        check_same(folder, joint([sweep], trust=True)[0], "hydra.run.dir")
        print(f"{folder}: its shards are merged already")
        return
    merged([sweep], folder, trust=True)
