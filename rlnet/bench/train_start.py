"""A command of scripts/train.py until its first update: T0 and overrides; a line of JSON with the seconds since T0."""

import json
import os
import runpy
import sys
import time
from pathlib import Path
from typing import Any

HEAVY = ("matplotlib", "tensorboard", "torch.utils.tensorboard", "numba", "jinja2", "torch._dynamo")
HEAVY += ("scipy.special", "scipy.stats", "scipy.optimize", "pandas", "PIL")
EXACT = ("scipy.sparse", "scipy.linalg")  # with which a finite model is solved


def main() -> None:
    """Run the script, end it where it would learn for the first time."""
    began = float(sys.argv[1])
    import rlnet.learning.training_loop

    def first(*arguments: Any) -> None:
        numbers = {"seconds": time.time() - began, "processor": time.process_time()}
        print(json.dumps({**numbers, "modules": [name for name in HEAVY + EXACT if name in sys.modules]}), flush=True)
        os._exit(0)

    rlnet.learning.training_loop.learn = first
    script = Path(__file__).parents[2] / "scripts" / "train.py"
    sys.argv = [str(script), *sys.argv[2:]]
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main()
