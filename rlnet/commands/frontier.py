"""Say how far a tuned policy is from the best reward at its divergence: rlnet frontier PASS_RATES.csv

The file has a line for each prompt, with these columns; rewards are 1 (passed) or 0.

  prompt                                 its name
  reference_passes, reference_samples    how many of the reference policy's samples passed; or
  reference_rate                         its pass rate, where that is known exactly
  tuned_passes, tuned_samples            the same of the tuned policy; or
  tuned_rate
  weight                                 optional: the prompt's share, by default the same for all
  kl                                     KL(tuned || reference) of the prompt, in nats; or --kl MEAN
"""

import argparse
from pathlib import Path

from rlnet.commands.failures import answer
from rlnet.config import ConfigError
from rlnet.experiment.run_folder import program


def main() -> int:
    """Run `rlnet frontier`: exit code 0 where the distance was found, 2 for a file that cannot be used."""
    parser = argparse.ArgumentParser(
        prog=program("frontier"), description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="pass rates of prompts (CSV)")
    parser.add_argument("--kl", type=float, help="mean divergence in nats, where the file has no column kl")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to this file, too")
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw the frontier and the tuned policy")
    options = parser.parse_args()
    return answer(lambda: _frontier(options.file, options.kl, options.json, options.png))


def _frontier(file: Path, kl: float | None, numbers: Path | None, picture: Path | None) -> int:
    from rich.console import Console

    from rlnet.compare.pass_rates import distance
    from rlnet.experiment.checkpoints import require_place
    from rlnet.experiment.pass_rate_files import read_pass_rates
    from rlnet.experiment.run_files import write_json, write_whole
    from rlnet.report.pass_rates import as_json, frontier_figure, show_distance

    if kl is not None and not 0 <= kl < float("inf"):
        raise ConfigError(f"--kl {kl:g}: must be a number of at least 0")
    for option, path, end in (("--json", numbers, ".json"), ("--png", picture, ".png")):
        if path is not None:
            require_place(path, end, option=f"{option} ")
        if path is not None and path.exists() and file.exists() and path.samefile(file):
            raise ConfigError(f"{option} {path}: is the file that is read; name another")
    rates = read_pass_rates(file, kl)
    found = distance(rates.reference, rates.tuned, rates.weight, rates.kl)
    written = [path for path in (numbers, picture) if path is not None]
    if numbers is not None:
        write_json(numbers, as_json(rates, found))
    if picture is not None:
        write_whole(picture, lambda part: frontier_figure(rates, found).savefig(part, format="png"))
    show_distance(Console(), rates, found, written)
    return 0
