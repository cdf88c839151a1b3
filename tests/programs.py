"""Programs that tests call: forked from a process that has imported what they import, which takes seconds each time."""

import os
import runpy
import subprocess
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path

from support import ROOT

SERVER = get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "__main__",
        *(f"rlnet.commands.{name}" for name in ("main", "train", "solve", "audit", "compare", "report")),
        "rlnet.learning.training_loop",
        "rlnet.report.page",
        "matplotlib.backends.backend_agg",
        "matplotlib.figure",
        "scipy.stats",
        "numba",
    ]
)


def _program(words: list[str], cwd: Path, environment: dict[str, str], out: str, error: str) -> None:
    """`python WORDS` here, as if it had been started so."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.orig_argv = [sys.executable, *words]
    module = words[0] == "-m"
    sys.argv = words[module:]
    first = str(cwd) if module else str(Path(words[0]).parent)
    below = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [first, *below, *(path for path in sys.path if path != str(ROOT / "tests"))]
    for path, number in ((out, 1), (error, 2)):
        opened = os.open(path, os.O_WRONLY)
        os.dup2(opened, number)
        os.close(opened)
    if module:
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(words[0], run_name="__main__")


def python(
    *words: str, cwd: Path, environment: dict[str, str] | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """What `python SCRIPT ARGUMENT ...`, or `python -m MODULE ARGUMENT ...`, says in a folder, and its exit code."""
    environment = dict(os.environ) if environment is None else environment
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("out", "error")]
        for file in files:
            file.touch()
        process = SERVER.Process(target=_program, args=(list(words), Path(cwd), environment, *map(str, files)))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(list(words), timeout)
        out, error = (file.read_text(encoding="utf-8") for file in files)
    return subprocess.CompletedProcess(list(words), process.exitcode, out, error)
