"""The cost of the live comparison on 500 states: ALGO STEPS; a line of JSON with its share of the run."""

import csv
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from rlnet.bench.peers.rlnet_run import composed
from rlnet.learning.training_loop import train

SHAPE = (20, 25)


def main() -> None:
    """Train on an open room with a slippery floor, without a limit on the time of comparisons."""
    algo, steps = sys.argv[1], int(sys.argv[2])
    config = composed([f"algo={algo}", f"steps={steps}", "compare_share=1", f"checkpoint_every={steps}"])
    rows = ["." * SHAPE[1]] * SHAPE[0]
    room = "\n".join(["S" + rows[0][1:], *rows[1:-1], rows[-1][:-1] + "G"])
    values = {name: value for name, value in vars(config).items() if name != "env"}
    config = type(config)(env=replace(config.env, map=room, cells={}), **values)
    with tempfile.TemporaryDirectory() as folder:
        train(config, Path(folder) / "run")
        with (Path(folder) / "run" / "metrics.csv").open(newline="", encoding="utf-8") as file:
            last = list(csv.DictReader(file))[-1]
    states = SHAPE[0] * SHAPE[1]
    share, every = float(last["time/compare_share"]), config.compare_every
    print(json.dumps({"algo": algo, "states": states, "steps": steps, "every": every, "share": share}))


if __name__ == "__main__":
    main()
