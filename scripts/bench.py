"""`bench.py dp`, `train`, `games`: beside others; `errors`: exact, at the defaults; `soak`: long runs; `trl`: TRL."""

import argparse
import sys
from pathlib import Path

from rlnet.bench import dp, errors, games, soak, train, trl_steps


def main() -> None:
    """Parse, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["dp", "train", "games", "errors", "soak", "trl"])
    parser.add_argument("--peers", default=sys.executable, help="the Python in which the other programs are installed")
    parser.add_argument("--rounds", type=int, default=5, help="medians over this many interleaved turns")
    parser.add_argument("--out", default="", help="folder for the numbers and the plot")
    parser.add_argument("--only", default="", help="parts of names of problems; train, soak: ppo,...; or algorithms")
    parser.add_argument("--full", action="store_true", help="dp: also Garnet 10^6 and lake 10^7 (8 GiB)")
    parser.add_argument("--limit", type=float, default=60.0, help="dp: seconds granted to a solver for one answer")
    parser.add_argument("--members", default="1,4,16,64,256", help="train: population sizes")
    parser.add_argument("--learners", default="", help="train: only these, of rlnet_run and the peers")
    parser.add_argument("--seconds", type=float, default=0.5, help="train, games: of a turn, about")
    parser.add_argument("--seeds", type=int, help="errors: members of each population (3); train: to 475 (5)")
    parser.add_argument("--steps", type=int, help="errors, soak: environment steps, if not the default; 10^7")
    parser.add_argument("--jobs", type=int, default=2, help="errors: processes side by side")
    options = parser.parse_args()
    if options.part == "errors":
        configs = Path(__file__).parents[1] / "configs"
        errors.run(configs, options.seeds or 3, options.steps, options.jobs, options.out, options.only)
    elif options.part == "soak":
        sys.exit(soak.run(options.steps or 10_000_000, options.only, options.out))
    elif options.part == "games":
        games.run(options.peers, options.rounds, options.seconds, options.out, options.only)
    elif options.part == "trl":
        trl_steps.run(options.rounds)
    elif options.part == "dp":
        dp.run(options.peers, options.rounds, options.full, options.limit, options.out, options.only)
    else:
        sizes, learners = tuple(map(int, options.members.split(","))), tuple(filter(None, options.learners.split(",")))
        plan = (options.peers, options.rounds, sizes, options.seconds, options.seeds or 5, learners or train.LEARNERS)
        train.run(train.Plan(*plan), options.out, options.only)


if __name__ == "__main__":
    main()
