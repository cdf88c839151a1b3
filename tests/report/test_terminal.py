"""The terminal: every number in its cell, arrows as in the policy, scales shared, and nothing lost without colours."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from report_console import console, text_of
from report_models import ARROWS, grid_model, marked_model, one_hot, plain_model, positions, three_panels
from support import composed

from rlnet.mdp import FiniteMDP
from rlnet.report import Panel
from rlnet.report.colours import colour_at, text_on
from rlnet.report.panels import chosen_actions, grid_states, scale_of, unit_of
from rlnet.report.summary import _show_last_row, _show_settings
from rlnet.report.terminal import show_files, show_scores, show_values


def shown(mdp, panels, width: int = 80) -> list[str]:
    out = console(width)
    show_values(out, mdp, panels)
    return text_of(out).splitlines()


def column(lines: list[str], title: str, width: int) -> list[str]:
    """The part of a block of lines under a title."""
    first = next(i for i, line in enumerate(lines) if title in line)
    at = lines[first].index(title)
    end = lines.index("", first) if "" in lines[first:] else len(lines)
    return [line[at : at + width] for line in lines[first + 1 : end]]


def coloured_cells(mdp, panels, width: int = 80) -> dict[str, set[str]]:
    """The background colours that each printed word stands on."""
    out = console(width, colour=True)
    show_values(out, mdp, panels)
    found: dict[str, set[str]] = {}
    for styles, text in re.findall(r"\x1b\[([\d;]+)m([^\x1b]*)\x1b", text_of(out)):
        background = re.search(r"48;2;(\d+;\d+;\d+)", styles)
        if background and text.strip():
            found.setdefault(text.strip(), set()).add(background[1])
    return found


def test_numbers_stand_in_their_cells_first_row_on_top():
    mdp = grid_model()
    lines = shown(mdp, [Panel("V", positions(mdp))])
    rows = [re.sub("█+", " # ", line).split() for line in lines[1:4]]
    assert rows == [["0.0", "1.0", "#", "3.0"], ["10.0", "11.0", "12.0", "13.0"], ["20.0", "T-1", "22.0", "T-1"]]


def test_learned_exact_and_error_stand_side_by_side_under_their_titles():
    mdp = grid_model()
    exact = positions(mdp)
    lines = shown(mdp, three_panels(mdp, exact + 2.5, exact))
    assert [lines[0].index(title) for title in ("learned V", "exact V*", "error")] == [0, 22, 44]
    assert column(lines, "learned V", 20)[2].split() == ["12.5", "13.5", "14.5", "15.5"]
    assert column(lines, "exact V*", 20)[2].split() == ["10.0", "11.0", "12.0", "13.0"]
    assert column(lines, "error", 20)[2].split() == ["+2.5"] * 4


def test_arrows_are_the_most_probable_actions_and_ties_show_all():
    mdp = grid_model()
    policy = one_hot(mdp, 1)
    policy[1] = [0.4, 0.2, 0.4, 0.0]
    policy[3] = [0.25, 0.25, 0.25, 0.25]
    policy[4] = [0.1, 0.0, 0.0, 0.9]
    arrows = shown(mdp, [Panel("V", positions(mdp), policy)])[2:8:2]
    assert re.sub("█+", "#", arrows[0]).split() == ["S→", "↑↓", "#", "→"]
    assert arrows[1].split() == ["↑→↓←", "←", "→", "→"]
    assert arrows[2].split() == ["→", "→"]  # nothing in the terminal cells


def test_more_arrows_than_a_cell_holds_become_a_star_that_is_explained():
    mdp = grid_model()
    everywhere = one_hot(mdp, 0, 1, 2, 3)
    wide = shown(mdp, [Panel("V", -positions(mdp), everywhere)])
    assert wide[2].startswith("S↑→↓←  ↑→↓← ")
    assert not any("more than fit" in line for line in wide)
    narrow = shown(mdp, [Panel("V", positions(mdp), everywhere)])  # cells of five: without colours one stays free
    assert narrow[2].lstrip().startswith("S*  ↑→↓←█")
    assert "* more than fit" in narrow[-1]
    out = console(colour=True)
    show_values(out, mdp, [Panel("V", positions(mdp), everywhere)])
    assert "S↑→↓←" in text_of(out)
    assert "more than fit" not in text_of(out)


def test_unavailable_and_nearly_equal_actions():
    mdp = plain_model(3)
    policy = np.array([[0.5, 0.4995, 0.0005], [np.nan, 0.6, 0.4], [0.0, 0.0, 0.0]])
    assert chosen_actions(mdp, policy).tolist() == [[True, True, False], [False, True, False], [False] * 3]
    fewer = FiniteMDP.from_outcomes({0: {1: [(1.0, 1, 0.0, True)]}, 1: {}}, n_states=2, n_actions=2)
    assert chosen_actions(fewer, np.array([[0.9, 0.1], [0.5, 0.5]])).tolist() == [[False, True], [False, False]]
    grid = grid_model()
    assert not chosen_actions(grid, one_hot(grid, 0, 1, 2, 3))[grid.terminal].any()


def test_value_panels_share_one_scale_and_the_error_is_centred_on_zero():
    mdp = grid_model()
    low, high = np.linspace(0, 5, mdp.n_states), np.linspace(5, 10, mdp.n_states)
    low[0] = high[1] = 7.0
    panels = [Panel("a", low), Panel("b", high), Panel("e", np.linspace(-1, 3, mdp.n_states), kind="error")]
    inner = ~mdp.terminal
    assert scale_of(mdp, panels, "value").low == low[inner].min()
    assert scale_of(mdp, panels, "value").high == high[inner].max()
    error = scale_of(mdp, panels, "error")
    assert error.low == -error.high
    assert error.fraction(0.0) == 0.5
    assert len(coloured_cells(mdp, panels)["7.0"]) == 1


def test_colours_are_those_of_matplotlib():
    import matplotlib

    for kind, name in (("value", "viridis"), ("error", "PuOr_r")):
        for fraction in np.linspace(0, 1, 9):
            wanted = np.array(matplotlib.colormaps[name](float(fraction))[:3]) * 255
            assert np.abs(wanted - colour_at(kind, float(fraction))).max() <= 3
    assert (text_on((0, 0, 0)), text_on((255, 255, 255)), text_on((253, 231, 37))) == ("white", "black", "black")


def test_terminal_values_do_not_stretch_the_scale():
    mdp = grid_model()
    v = positions(mdp)
    v[mdp.terminal] = 1e6
    assert scale_of(mdp, [Panel("V", v)], "value").high == 22.0
    assert "1000000" not in "\n".join(shown(mdp, [Panel("V", v)]))


@pytest.mark.parametrize("width", [30, 45, 80])
def test_panels_that_do_not_fit_stand_below_each_other(width):
    mdp = grid_model()
    lines = shown(mdp, three_panels(mdp, positions(mdp) + 1, positions(mdp)), width)
    assert max(map(len, lines)) <= width
    tops = [next(i for i, line in enumerate(lines) if title in line) for title in ("learned V", "exact V*", "error")]
    assert len(set(tops)) == {30: 3, 45: 2, 80: 1}[width]


def test_a_long_row_wraps_into_blocks_of_columns():
    mdp = grid_model(("S" + "." * 17 + "T",))
    lines = shown(mdp, [Panel("V", positions(mdp))], 60)
    assert "Columns 0–9:" in lines
    assert "Columns 10–18:" in lines
    numbers = [float(word) for line in lines for word in line.split() if re.fullmatch(r"\d+\.\d", word)]
    assert numbers[:18] == list(range(18))


def test_a_large_grid_is_cut_around_the_largest_error_and_says_so():
    mdp = grid_model((("." * 60),) * 39 + ("S" + "." * 58 + "T",))
    exact = positions(mdp)
    learned = exact.copy()
    learned[30 * 60 + 50] += 9.0
    lines = shown(mdp, three_panels(mdp, learned, exact))
    text = " ".join(" ".join(lines).split())
    assert "The grid has 40 × 60 cells." in text
    assert "around the largest error" in text
    assert "+9.0" in text
    assert len(lines) < 70
    out = console(140, colour=True)
    show_values(out, mdp, three_panels(mdp, learned, exact))
    assert "too many for numbers here" in text_of(out)


def test_extreme_numbers_are_shown_and_do_not_break_the_scale():
    mdp = grid_model()
    v = positions(mdp)
    v[:3] = np.nan, np.inf, -np.inf
    lines = shown(mdp, [Panel("V", v)])
    assert re.sub("█+", " ", lines[1]).split() == ["nan", "inf", "-inf"]
    assert coloured_cells(mdp, [Panel("V", v)])["nan"] == {"128;128;128"}
    for constant in (0.0, -3.0, np.nan, 1e-12, 1e12, -1e300, 5e-324):
        panels = [
            Panel("V", np.full(mdp.n_states, constant)),
            Panel("E", np.full(mdp.n_states, constant), kind="error"),
        ]
        assert len(shown(mdp, panels)) > 3
        assert coloured_cells(mdp, panels)


def test_tiny_and_huge_numbers_get_a_unit():
    mdp = grid_model()
    panel = Panel("error", positions(mdp) * 1e-6, kind="error")
    unit = unit_of(mdp, [panel], "error")
    assert (unit.exponent, unit.suffix) == (-5, ", in 10⁻⁵")
    assert unit.text(1.1e-5) == "+1.1"
    lines = shown(mdp, [panel])
    assert "10⁻⁵" in lines[0] + lines[1]
    assert unit_of(mdp, [Panel("V", np.full(mdp.n_states, 0.5))], "value").text(-1e-9) == "0.00"


def test_one_state_and_other_labels():
    mdp = plain_model(1)
    assert any("[room 0]" in line and "end" not in line for line in shown(mdp, [Panel("V", np.ones(1))]))
    drawn = grid_model(("ST",))
    assert any("S" in line for line in shown(drawn, [Panel("V", np.zeros(2), one_hot(drawn, 1))]))
    unnamed = grid_model(labels=("north", "east", "south", "west"))
    assert any(
        "have no directions" in line for line in shown(unnamed, [Panel("V", positions(unnamed), one_hot(unnamed, 0))])
    )


def test_a_model_without_a_shape_is_a_table_of_states():
    mdp = plain_model(5)
    exact = np.arange(5.0)
    lines = shown(mdp, three_panels(mdp, exact + 0.5, exact))
    row = next(line for line in lines if "[room 3]" in line)
    assert re.split(r"\s{2,}", row.strip()) == ["[room 3]", "3.5", "go left", "3.0", "stay, go left", "+0.50"]
    header = next(line for line in lines if "learned V" in line)
    assert header.index("learned V") < header.index("exact V*") < header.index("error")


def test_of_many_states_those_with_the_largest_error_are_listed():
    mdp = plain_model(500)
    learned = np.zeros(500)
    learned[[7, 400]] = -3.0, 2.0
    lines = shown(mdp, three_panels(mdp, learned, np.zeros(500)))
    rooms = [line.split("]")[0].strip() for line in lines if "[room" in line]
    assert len(rooms) == 20
    assert rooms[:2] == ["[room 7", "[room 400"]
    assert "The 20 states with the largest error, of 500." in lines


def test_a_long_chain_is_a_table_too():
    mdp = grid_model(("T" + "." * 98 + "S",))
    assert any("of 100." in line for line in shown(mdp, three_panels(mdp, positions(mdp) * 2, positions(mdp))))


def test_plain_output_has_no_escapes_and_ascii_consoles_get_ascii():
    mdp = grid_model()
    panels = three_panels(mdp, positions(mdp) + 1, positions(mdp))
    assert "\x1b" not in "\n".join(shown(mdp, panels))
    out = console(encoding="ascii")
    show_values(out, mdp, panels)
    show_values(out, plain_model(3), three_panels(plain_model(3), np.ones(3), np.zeros(3)))
    show_scores(out, "γ = 0.9", {"exact/return": [1.0]})
    assert "####" in text_of(out)
    assert "^>" in text_of(out)
    assert "gamma = 0.9" in text_of(out)


def test_panels_that_do_not_fit_the_model_are_refused():
    mdp = grid_model()
    with pytest.raises(ValueError, match="3 values, the model has 11 states"):
        show_values(console(), mdp, [Panel("V", np.zeros(3))])
    with pytest.raises(ValueError, match="over 2 actions, the model has 4"):
        show_values(console(), mdp, [Panel("V", positions(mdp), np.ones((11, 2)))])
    with pytest.raises(ValueError, match="no panels"):
        show_values(console(), mdp, [])
    with pytest.raises(ValueError, match="kind='other'"):
        Panel("V", np.zeros(3), kind="other")
    with pytest.raises(ValueError, match=r"must be \[S\]"):
        Panel("V", np.zeros((3, 3)))


def test_a_model_without_cell_numbers_its_cells_in_reading_order():
    mdp = replace(grid_model(("...", "..T")), cell=None)
    assert grid_states(mdp).tolist() == [[0, 1, 2], [3, 4, 5]]
    walled = grid_states(grid_model())
    assert walled.tolist() == [[0, 1, -1, 2], [3, 4, 5, 6], [7, 8, 9, 10]]
    assert list(ARROWS) == list(grid_model().action_labels)


def test_goal_pit_cliff_wall_and_jump_each_have_their_letter_and_a_legend():
    mdp = marked_model()
    lines = shown(mdp, [Panel("V", positions(mdp), one_hot(mdp, 1))])
    assert re.sub("█+", " # ", lines[1]).split() == ["0", "1", "#", "3"]
    assert "J+10" in lines[2]
    assert lines[5].split() == ["20", "!-100", "P-1", "G+1"]
    legend = " ".join(" ".join(lines[9:]).split())
    for text in ("G: end that pays (+1)", "P: end that costs (-1)", "!: entering costs (-100)", "J: moves on"):
        assert text in legend
    colours = coloured_cells(mdp, [Panel("V", positions(mdp))])
    assert len({tuple(colours[text]) for text in ("!-100", "P-1", "G+1")}) == 3


def test_the_last_row_of_every_member_is_shown_where_they_end_at_different_steps(tmp_path):
    """Updates of whole episodes have different lengths; the last two rows of member 1 are of the same step."""
    rows = ["step,member,seed,return/mean", "10,0,0,1", "12,1,1,2", "20,0,0,3", "23,1,1,4", "20,0,0,5", "23,1,1,8"]
    path, out = tmp_path / "metrics.csv", console(100)
    path.write_text("\n".join(rows) + "\n")
    _show_last_row(out, composed("env=cartpole", "algo=dqn", "network=mlp", "seeds=2"), path)
    text = text_of(out)
    assert "after 20 to 23 steps" in text
    assert re.search(r"return/mean +6\.5 +5 +8 ", text)
    assert "over 2 members" in text


def test_the_scores_of_settings_are_written_like_all_scores():
    out = console(80)
    scores = {"exact/regret": np.array([-1.11e-16, 0.25]), "exact/optimal_action_rate": np.array([1.0, 0.5])}
    _show_settings(out, [{"gamma": 0.9}, {"gamma": 0.99}], scores, 1)
    assert re.search(r"0\.9 +≈ 0 +100\.0 %\s+0\.99 +0\.25 +50\.0 %", text_of(out))


def test_the_command_beside_a_file_can_be_copied(tmp_path):
    events = tmp_path / "a run" / "events.out.tfevents.1"
    events.parent.mkdir()
    events.touch()
    shown = console()
    show_files(shown, [events])
    assert f"tensorboard --logdir '{events.parent}'" in " ".join(text_of(shown).split("\n"))
