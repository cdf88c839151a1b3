"""Resuming a run from its folder: from the newest sound checkpoint, or from the beginning."""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlnet.config import ConfigError, require
from rlnet.config.stored import from_stored
from rlnet.experiment.checkpoints import NEWEST, PREVIOUS, DamagedError, checkpoints, read_checkpoint
from rlnet.experiment.run_files import rows_until
from rlnet.experiment.run_folder import STORED
from rlnet.learning.checkpoint_checks import same_settings
from rlnet.learning.training_state import TrainingState

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Past:
    """The checkpoint and log from which a run is resumed."""

    stored: dict[str, Any]  # its checkpoint
    rows: bytes  # of metrics.csv
    newest: bool  # whether the checkpoint is the newest one


def restored(state: TrainingState, source: Path) -> Past | None:
    """Restore a run from the newest intact checkpoint of a folder; None where it has no checkpoint yet.

    Raises:
        ConfigError: other settings than the folder's, or no checkpoint of it can be used.
    """
    said: list[str] = []
    for path in checkpoints(source):
        try:
            stored = read_checkpoint(path, state.config.device)
            rows = rows_until(source / "metrics.csv", stored["record"])
            state.load_state_dict(stored, state.config.trust)
        except DamagedError as error:
            said.append(str(error))
        except ConfigError:  # of other settings
            raise
        except (RuntimeError, ValueError, KeyError, TypeError, IndexError) as error:
            said.append(f"{path}: cannot be read ({type(error).__name__}: {str(error).splitlines()[0]})")
        else:
            if said or path.name == PREVIOUS:
                why = "; ".join(dict.fromkeys(said)) or f"{source / NEWEST}: is missing"
                _log.warning("%s; going on from %s, step %d", why, path.name, int(state.steps.max()))
            return Past(stored, rows, newest=path.name == NEWEST)
    if said:
        raise ConfigError(f"resume={source}: {'; '.join(dict.fromkeys(said))}")
    same_settings(state.config, asdict(from_stored(source / STORED / "config.yaml", state.config.trust)))
    _log.warning("resume=%s: was stopped before its first checkpoint; it begins again", source)
    return None


def check_steps(state: TrainingState, source: Path | None) -> None:
    """Raise ConfigError for fewer steps than were done; warn where there are none left to do."""
    done, steps = int(state.steps.min()), state.config.steps
    if source is None or done < steps:
        return
    had = from_stored(source / STORED / "config.yaml", state.config.trust).steps
    require(steps >= had, "steps", steps, f"resume={source} has done {done} already; give more")
    _log.warning("steps=%d: resume=%s has done %d already; its last files are written again", steps, source, done)
