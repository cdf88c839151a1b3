"""Records of sweeps on disk: the planned jobs of a sweep, and the state of each.

The folder of a sweep holds `.sweep/sweep.json`, the jobs that it is to do, and a small file for each job that has
begun. Every job writes its own, in whichever process or on whichever machine it runs; whoever wants to know reads them.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from rlnet.config import ConfigError
from rlnet.config.files import MALFORMED, read_json, read_yaml, reading
from rlnet.experiment.checkpoints import write_whole
from rlnet.experiment.run_folder import STORED, as_typed, fcntl

RECORDS = ".sweep"
PLAN = "sweep.json"
RUNNING, FINISHED, FAILED = "running", "finished", "failed"  # of a job; "running" too where its process was killed
PRUNED = "pruned"  # of a trial of a search
# Settings in which a run may differ from one in the same folder and still be the same.
FREE = ("resume", "trust", "threads", "processes", "logger")


@dataclass(frozen=True)
class JobRecord:
    """State of a job of a sweep, as it is stored."""

    number: int
    overrides: list[str]  # that tell it from others, as they were typed
    folder: str  # of the job, seen from that of the sweep
    state: str = RUNNING
    code: int = 0  # the exit code that it would have alone; 2: bad input
    sentence: str = ""  # why it failed

    @property
    def name(self) -> str:
        """The job and its settings, for sentences."""
        return f"job {self.number} ({' '.join(self.overrides)})" if self.overrides else f"job {self.number}"


def plan(sweep: Path, jobs: Sequence[Sequence[str]] | None) -> None:
    """Write down which jobs a sweep has; what is known of others that never came to an end is forgotten.

    Args:
        sweep: its folder.
        jobs: the overrides of each, as Hydra has them; None where they are not known beforehand.
    """
    records = sweep / RECORDS
    records.mkdir(parents=True, exist_ok=True)
    listed = None if jobs is None else [as_typed(job) for job in jobs]
    _write(records / PLAN, {"jobs": listed})
    if listed is not None:
        expected = {_file(number, job) for number, job in enumerate(listed)}
        for one in read_records(sweep):
            path = records / _file(one.number, one.overrides)
            if one.state != FINISHED and path.name not in expected:
                path.unlink(missing_ok=True)


def note(sweep: Path, record: JobRecord) -> None:
    """Write down what became of a job."""
    (sweep / RECORDS).mkdir(parents=True, exist_ok=True)
    _write(sweep / RECORDS / _file(record.number, record.overrides), asdict(record))


def taken(sweep: Path, name: str) -> IO[str] | None:
    """A lock on a job, held until it is closed or the process ends; None where another process holds it."""
    (sweep / RECORDS).mkdir(parents=True, exist_ok=True)
    file = (sweep / RECORDS / f"{name}.lock").open("a")
    try:
        if fcntl is not None:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def at_work(sweep: Path) -> list[JobRecord]:
    """The jobs of a sweep that other processes do now."""
    return [one for one in told_apart(planned(sweep)) if one.state == RUNNING and _is_taken(sweep, one)]


def _is_taken(sweep: Path, one: JobRecord) -> bool:
    if not (sweep / RECORDS / f"{one.number}.lock").is_file():
        return False
    lock = taken(sweep, str(one.number))
    if lock is not None:
        lock.close()
    return lock is None


def known(sweep: Path, number: int, overrides: Sequence[str]) -> JobRecord | None:
    """The record of a job's last start; None where it was never begun, or another job had its number."""
    path = sweep / RECORDS / _file(number, overrides)
    return _read(path) if path.is_file() else None


def read_records(sweep: Path) -> list[JobRecord]:
    """What is known of the jobs that were begun in a sweep's folder, by number; [] where nothing is.

    Raises:
        ConfigError: a file that cannot be read, or that no sweep has written.
    """
    found = [_read(path) for path in (sweep / RECORDS).glob("*.json") if path.name != PLAN]
    return sorted(found, key=lambda one: one.number)


def planned(sweep: Path) -> list[JobRecord]:
    """The jobs of the last start of a sweep, those that were never begun too; all that is known where there is no plan.

    Raises:
        ConfigError: as `read_records`.
    """
    path = sweep / RECORDS / PLAN
    if not path.is_file():
        return read_records(sweep)
    with reading(path):
        jobs = read_json(path)["jobs"]
    if jobs is None:
        return read_records(sweep)
    with reading(path):
        own = [(number, [str(item) for item in job]) for number, job in enumerate(jobs)]
    return [known(sweep, number, job) or JobRecord(number, job, str(number)) for number, job in own]


def told_apart(jobs: Sequence[JobRecord]) -> list[JobRecord]:
    """Jobs with only those overrides that not all of them have, for their names."""
    shared = set.intersection(*(set(one.overrides) for one in jobs)) if len(jobs) > 1 else set()
    return [replace(one, overrides=[item for item in one.overrides if item not in shared]) for one in jobs]


def became(one: JobRecord) -> str:
    """The state of a job in words."""
    said = {FINISHED: "finished", FAILED: f"failed: {one.sentence}", PRUNED: f"pruned: {one.sentence}"}
    return said.get(one.state, "is not finished")


def check_same(folder: Path, config: Any, key: str) -> bool:
    """Whether a folder holds the run of a config already, begun or finished; False where it holds none.

    Args:
        folder: of a job.
        config: a checked config.
        key: what named the folder, for the message.

    Raises:
        ConfigError: it holds a run of other settings.
    """
    path = folder / STORED / "config.yaml"
    if not path.is_file():
        return False
    from omegaconf import OmegaConf

    stored, own = (
        OmegaConf.to_container(tree, resolve=False)
        for tree in (read_yaml(path, computed=True), OmegaConf.create(asdict(config)))
    )
    assert isinstance(stored, dict)
    assert isinstance(own, dict)
    for name, value in own.items():
        if name not in FREE and stored.get(name) != value:
            at, before, now = difference(str(name), stored.get(name), value)
            raise ConfigError(
                f"{key}: {folder} holds a run with {at}={before}, not {at}={now}; choose another folder for this sweep"
            )
    return True


def difference(at: str, before: Any, now: Any) -> tuple[str, Any, Any]:
    """The first setting in which two trees differ, and both values."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in (*now, *(name for name in before if name not in now)):
            if before.get(name) != now.get(name):
                return difference(f"{at}.{name}", before.get(name), now.get(name))
    return at, before, now


def _file(number: int, overrides: Sequence[str]) -> str:
    """The name of the record of a job: a job of other settings with the same number has another one."""
    digest = hashlib.sha256(json.dumps(list(overrides)).encode()).hexdigest()
    return f"{number}-{digest[:8]}.json"


def _read(path: Path) -> JobRecord:
    content = read_json(path)
    try:
        own = {name: content[name] for name in ("number", "overrides", "folder", "state", "code", "sentence")}
        texts = [own["folder"], own["state"], own["sentence"], *own["overrides"]]
        if not all(isinstance(text, str) for text in texts) or not all(
            isinstance(own[name], int) for name in ("number", "code")
        ):
            raise TypeError("a text or a number is missing")
        return JobRecord(**own)
    except MALFORMED as error:
        raise ConfigError(f"{path}: is not what a sweep writes of a job ({type(error).__name__}: {error})") from error


def _write(path: Path, content: Any) -> None:
    write_whole(path, lambda part: part.write_text(json.dumps(content) + "\n", encoding="utf-8"))
