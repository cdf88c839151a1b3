"""Test the simulators of an environment against its model: rlnet audit env=frozen_lake samples=200000

Exit code 0 where nothing is found, 1 where a simulator and the model differ, 2 for input that cannot be used.
"""

from pathlib import Path

from rlnet.commands.command_line import launch
from rlnet.config import AuditConfig, RunFailed


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


def main() -> int:
    """Run `rlnet audit` with the arguments of `sys.argv`; returns the exit code."""
    return launch("audit", job)
