"""Test the simulators of an environment against its model, or an update against exact gradients.

    rlnet audit env=frozen_lake samples=200000
    rlnet audit algo=grpo env=tokens_nano
    rlnet audit loss=my_module:my_loss env=tokens_nano
    rlnet audit trl=all

Exit code 0 where nothing is found, 1 where a simulator and the model differ, 2 for input that cannot be used.
"""

import sys
from dataclasses import asdict
from pathlib import Path

from rlnet.commands.command_line import launch
from rlnet.commands.failures import failed
from rlnet.config import AuditConfig, Config, ConfigError, RunFailed, TrainerAuditConfig


def job(config: AuditConfig, folder: Path) -> None:
    """Audit, print what was tested and found, write audit.json."""
    from rlnet.audit.job import audit_and_write
    from rlnet.report.audited import show_audit

    result = audit_and_write(config, folder)
    show_audit(result)
    if result.differences:
        raise RunFailed(
            f"{config.env.title()}: simulator and model differ in {result.differences} findings, listed above and in "
            f"{result.file}"
        )


def estimator_job(config: Config, folder: Path) -> None:
    """Set the expected update of an algorithm beside exact gradients, write estimator.json and a page."""
    from rich.console import Console

    from rlnet.diagnosis.estimator_audit import audit_estimator
    from rlnet.diagnosis.estimator_page import write_estimator
    from rlnet.diagnosis.estimator_table import show_estimator
    from rlnet.experiment.run_files import write_json

    audit, file = audit_estimator(config), folder / "estimator.json"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(file, {"env": config.env.name, "network": config.network.name, "seed": config.seed, **asdict(audit)})
    page = write_estimator(folder, audit, config.env.label)
    show_estimator(Console(), audit, f"the expected update of {config.algo.name} on {config.env.label}", [file, page])


def trainer_job(config: TrainerAuditConfig, folder: Path) -> None:
    """Set the expected updates of TRL's trainers beside exact gradients, write trl.json and a page."""
    from rich.console import Console

    from rlnet.diagnosis.trl_audit import audit_trainers
    from rlnet.diagnosis.trl_page import show_trainers, write_trainers
    from rlnet.experiment.run_files import write_json

    audit, file = audit_trainers(config, print), folder / "trl.json"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(file, asdict(audit))
    show_trainers(Console(), audit, [file, write_trainers(folder, audit)])


def main() -> int:
    """Run `rlnet audit` with the arguments of `sys.argv`; returns the exit code."""
    sys.argv[1:] = [part for argument in sys.argv[1:] for part in _own_loss(argument)]
    keys = {argument.partition("=")[0] for argument in sys.argv[1:]}
    if {"trl", "algo"} <= keys:
        return failed(
            ConfigError("trl=...: audits trainers of TRL, algo=... or loss=... an update of rlnet; leave one out")
        )
    if "trl" in keys:
        return launch("trainer_audit", trainer_job)
    if "algo" in keys:
        return launch("train", estimator_job)
    return launch("audit", job)


def _own_loss(argument: str) -> list[str]:
    """`loss=PATH`, a loss function of the user, as the settings that it stands for; other arguments as they are."""
    key, equals, path = argument.partition("=")
    if key != "loss" or not equals:
        return [argument]
    quoted = path.replace("\\", "\\\\").replace("'", "\\'")
    return ["algo=completion_loss", f"algo.options.loss='{quoted}'"]
