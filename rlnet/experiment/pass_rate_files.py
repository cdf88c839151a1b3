"""Reading pass rates of a reference and of a tuned policy from a CSV file."""

import csv
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlnet.compare.pass_rates import Rates
from rlnet.config import ConfigError
from rlnet.config.files import reading, regular

COUNTED = ("{}_passes", "{}_samples")
KNOWN = "{}_rate"
COLUMNS = (
    "prompt", "reference_passes", "reference_samples", "reference_rate", "tuned_passes", "tuned_samples", "tuned_rate",
    "weight", "kl",
)  # fmt: skip


@dataclass(frozen=True)
class PassRates:
    """What was measured on P prompts."""

    prompts: tuple[str, ...]
    reference: Rates
    tuned: Rates
    weight: np.ndarray  # [P], sum 1
    kl: float  # mean over prompts, in nats


def read_pass_rates(path: Path, kl: float | None = None) -> PassRates:
    """Read a file with a row for each prompt.

    Columns: `prompt`, its name; `reference_passes` and `reference_samples`, or `reference_rate` where it is known
    exactly; the same of `tuned_`; optional: `weight`, the prompt's share, and `kl`, its divergence in nats.

    Args:
        path: of the file.
        kl: the mean divergence; None: it is the mean of the column `kl`.

    Raises:
        ConfigError: the file cannot be used; names file and line.
    """
    with reading(path), regular(path).open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, strict=True)
        rows: list[tuple[int, list[str]]] = []
        try:
            rows += [(lines.line_num, row) for row in lines if any(cell.strip() for cell in row)]
        except csv.Error as error:
            raise ConfigError(f"{path}, line {lines.line_num}: is not a CSV file ({error})") from error
    if not rows:
        raise ConfigError(f"{path}: is empty; it must have a line of column names, and a line for each prompt")
    names = [name.strip() for name in rows[0][1]]
    _check_columns(f"{path}, line {rows[0][0]}", names, kl)
    if len(rows) == 1:
        raise ConfigError(f"{path}: has column names, but no line for a prompt")
    table: list[tuple[str, Mapping[str, str]]] = []
    seen: dict[str, int] = {}
    for number, row in rows[1:]:
        where = f"{path}, line {number}"
        if len(row) != len(names):
            raise ConfigError(f"{where}: has {len(row)} fields, not {len(names)} as the line of column names")
        prompt = row[names.index("prompt")]
        if prompt in seen:
            raise ConfigError(f"{where}: prompt {prompt!r} is in line {seen[prompt]} already; give each prompt once")
        seen[prompt] = number
        table.append((where, dict(zip(names, row, strict=True))))
    weight = np.ones(len(table)) if "weight" not in names else np.array([_number(*row, "weight") for row in table])
    if not weight.any():
        raise ConfigError(f"{path}: all weights are 0; at least one prompt must count")
    weight = weight / weight.max()  # whose sum cannot overflow
    weight = weight / weight.sum()
    if kl is None:
        kl = float(weight @ np.array([_number(*row, "kl", least=-math.inf) for row in table]))
        if kl < 0:
            raise ConfigError(f"{path}: the mean of the column kl is {kl:.6g}; a divergence is at least 0")
    rates = [_rates(table, names, policy) for policy in ("reference", "tuned")]
    return PassRates(tuple(seen), rates[0], rates[1], weight, kl)


def _check_columns(where: str, names: list[str], kl: float | None) -> None:
    for name in names:
        if name not in COLUMNS:
            close = difflib.get_close_matches(name, COLUMNS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"allowed are {', '.join(COLUMNS)}"
            raise ConfigError(f"{where}: there is no column {name!r}; {hint}")
        if names.count(name) > 1:
            raise ConfigError(f"{where}: the column {name} stands more than once")
    if "prompt" not in names:
        raise ConfigError(f"{where}: the column prompt is missing")
    for policy in ("reference", "tuned"):
        counted, known = [name.format(policy) for name in COUNTED], KNOWN.format(policy)
        given = [name for name in (*counted, known) if name in names]
        if given not in (counted, [known]):
            need = f"needs {' and '.join(counted)}, or {known} alone"
            raise ConfigError(f"{where}: the {policy} policy {need}; given are {', '.join(given) or 'none of them'}")
    if ("kl" in names) == (kl is not None):
        said = "is given twice, as a column and as --kl" if kl is not None else "is missing: a column kl, or --kl MEAN"
        raise ConfigError(f"{where}: the divergence KL(tuned ‖ reference) {said}")


def _rates(table: list[tuple[str, Mapping[str, str]]], names: list[str], policy: str) -> Rates:
    known = KNOWN.format(policy)
    if known in names:
        return Rates(np.array([_number(*row, known, most=1.0) for row in table]))
    passes, samples = (name.format(policy) for name in COUNTED)
    total = np.array([_number(*row, samples, least=1.0, whole=True) for row in table])
    passed = np.array([_number(*row, passes, whole=True) for row in table])
    for (where, row), c, n in zip(table, passed, total, strict=True):
        if c > n:
            raise ConfigError(f"{where}: {passes}={row[passes]} is more than {samples}={row[samples]}")
    return Rates(passed, total)


def _number(
    where: str,
    row: Mapping[str, str],
    name: str,
    *,
    least: float = 0.0,
    most: float = math.inf,
    whole: bool = False,
) -> float:
    """The number of a field within its bounds."""
    try:
        value = float(row[name])
    except ValueError:
        value = math.nan
    if not (least <= value <= most and math.isfinite(value)) or (whole and not value.is_integer()):
        kind = "a whole number" if whole else "a number"
        bounds = f" from {least:g} to {most:g}" if math.isfinite(most) else f" of at least {least:g}"
        raise ConfigError(f"{where}: {name}={row[name]!r} must be {kind}{bounds if math.isfinite(least) else ''}")
    return value
