"""Simulations per second of tree searches for self-play: rlnet's beside mctx in pgx's games and OpenSpiel's.

The same board, network (two perceptrons of one size with random weights), number of simulations and number of games at
once; each program in a process of its own, in turns, on the same cores. OpenSpiel searches one position at a time.
"""

import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from rlnet.bench.train_process import Failed, Process

BOARDS = ("tic_tac_toe", "connect_four")
SEARCHES = ("rlnet_search", "rlnet_table", "mctx_pgx", "open_spiel_mcts")
TABLES = ("tic_tac_toe",)  # enumerated by `rlnet_table`
Row = dict[str, Any]


def run(peers: str, rounds: int, seconds: float, out: str, only: str) -> list[Row]:
    """Measure, print, and write games.json.

    Args:
        peers: the Python in which jax, mctx, pgx and open_spiel are installed.
        rounds: medians over so many turns.
        seconds: of a turn, about.
        out: a folder; empty: no file.
        only: parts of names of boards or searches, with commas between.
    """
    asked = [part for part in only.split(",") if part]
    rows: list[Row] = []
    for board in BOARDS:
        names = [name for name in SEARCHES if name != "rlnet_table" or board in TABLES]
        if asked:
            wanted = [name for name in names if any(part in name for part in asked)]
            names = wanted or (names if any(part in board for part in asked) else [])
        rows += _measured(board, names, peers, rounds, seconds) if names else []
    print(table(rows))
    if out:
        Path(out).mkdir(parents=True, exist_ok=True)
        (Path(out) / "games.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return rows


def _measured(board: str, names: list[str], peers: str, rounds: int, seconds: float) -> list[Row]:
    """One row for each search on a board, in interleaved turns."""
    cores = os.sched_getaffinity(0)
    rows: list[Row] = [{"board": board, "search": name, "cores": len(cores)} for name in names]
    ready: list[tuple[Process, Row, list[Row]]] = []
    try:
        for row in rows:
            python = sys.executable if row["search"].startswith("rlnet") else peers
            spec = {"learner": row["search"], "kind": board, "members": 1, "mode": "turns", "seconds": seconds}
            process = Process(python, len(cores), cores, **spec)
            try:
                row["ready"] = process.answer()["ready"]
                ready.append((process, row, []))
            except Failed as error:
                row["failed"] = str(error)
                process.close()
        for _ in range(rounds):
            for process, row, turns in ready:
                if "failed" not in row:
                    try:
                        turns.append(process.turn())
                    except Failed as error:
                        row["failed"] = str(error)
    finally:
        for process, *_ in ready:
            process.close()
    for _, row, turns in ready:
        if turns:
            for name in ("seconds", "processor"):
                row[f"per_{name}"] = statistics.median(turn["steps"] / turn[name] for turn in turns)
    return rows


def table(rows: list[Row]) -> str:
    """Markdown: simulations per second of the clock, and per second of processor time."""
    lines = ["| board | search | simulations/s | per second of processor time |", "|---|---|---|---|"]
    for row in rows:
        numbers = [f"{row[name]:,.0f}" if name in row else "" for name in ("per_seconds", "per_processor")]
        if "failed" in row:
            numbers[0] = row["failed"]
        lines.append(f"| {row['board']} | {row['search']} | {numbers[0]} | {numbers[1]} |")
    return "\n".join(lines)
