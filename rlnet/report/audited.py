"""Terminal output of an audit."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlnet.audit import Audited
from rlnet.audit.job import AuditResult
from rlnet.report.terminal import show_files
from rlnet.report.text import fit, say

_LEGEND = (
    "Pairs: reachable (s, a). Cut: ended by the time limit. Finds: half of the tried pairs show an error of this size "
    "in one transition probability with 90 %; worst: the one tried least does."
)
MOST = 20  # findings shown for each simulator; audit.json has all


def show_audit(result: AuditResult) -> None:
    """Print a table of the simulators, then the findings and what was not tested."""
    console, config = Console(), result.config
    limit = "no time limit" if result.limit is None else f"a time limit of {result.limit} steps"
    table = Table(box=box.SIMPLE, title_justify="left", title_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.title = fit(console, f"{config.env.title()} with {limit}: simulators against the model")
    table.add_column("simulator", no_wrap=True)
    for heading in ("steps", "ends", "cut", "pairs", "tried", "finds", "worst", "found"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in result.audits:
        numbers = (f"{x:,}" for x in (one.steps, one.episodes, one.cut))
        errors = (f"{x:.2g}" for x in (one.smallest_error, one.smallest_error_worst))
        row = (one.simulator, *numbers, str(one.pairs), str(one.tried), *errors, str(len(one.findings)))
        table.add_row(*(Text(fit(console, cell), style="bold red" if one.findings else "") for cell in row))
    console.print(table)
    say(console, _LEGEND)
    say(console, f"If all simulators are correct, the probability of any finding is at most {config.level:g}.")
    for one in result.audits:
        _show_findings(console, one)
    for note, names in _gathered(result.audits).items():
        say(console, f"Not tested ({', '.join(names)}): {note}.")
    for note in result.notes:
        say(console, f"Not tested: {note}.")
    if result.differences == 0:
        say(console, "No difference between the simulators and the model was found.")
    show_files(console, [result.file])


def _gathered(audits: list[Audited]) -> dict[str, list[str]]:
    """Notes grouped with the simulators that they concern."""
    notes: dict[str, list[str]] = {}
    for one in audits:
        for note in one.notes:
            notes.setdefault(note, []).append(one.simulator)
    return notes


def _show_findings(console: Console, one: Audited) -> None:
    if not one.findings:
        return
    table = Table(box=box.SIMPLE, title=fit(console, one.simulator), title_justify="left", pad_edge=False)
    for heading in ("difference", "state", "action", "the model says", "seen", "p"):
        table.add_column(heading)
    for finding in one.findings[:MOST]:
        place = ("" if x is None else str(x) for x in (finding.state, finding.action))
        seen = finding.seen if finding.p_value > 0 else f"{finding.seen}, {finding.count} times"
        p = f"{finding.p_value:.1e}" if finding.p_value > 0 else "0"
        cells = (finding.kind, *place, finding.expected, seen, p)
        table.add_row(*(Text(fit(console, cell)) for cell in cells))
    console.print(table)
    if len(one.findings) > MOST:
        say(console, f"The first {MOST} of {len(one.findings)} findings; audit.json has all.")
