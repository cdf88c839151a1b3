"""Figures: the right arrays in the right artists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from report_models import grid_model, marked_model, one_hot, plain_model, positions, three_panels

from rlnet.report import Panel
from rlnet.report.curves import by_member, mean_and_band
from rlnet.report.figures import curves_figure, image_array, save_png, values_figure
from rlnet.report.svg_map import maps


def panels_of(figure) -> dict:
    """The axes that hold a picture, by title."""
    return {axes.get_title(): axes for axes in figure.axes if axes.get_title()}


def numbers_of(axes) -> dict:
    """{(row, column): text} of what stands in the cells."""
    return {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in axes.texts}


def arrows_of(axes) -> dict:
    """{label: set of (row, column)} of the arrow heads."""
    found = {}
    for collection in axes.collections:
        if collection.get_label() in "↑→↓←↗":
            cells = {(round(y), round(x)) for x, y in collection.get_offsets()}
            found[collection.get_label()] = cells
    return found


def test_each_panel_holds_its_values_by_row_and_column():
    mdp = grid_model()
    exact = positions(mdp)
    axes = panels_of(values_figure(mdp, three_panels(mdp, exact + 2.5, exact)))
    assert list(axes) == ["learned V", "exact V*", "error"]
    expected = np.ma.masked_invalid([[0, 1, np.nan, 3], [10, 11, 12, 13], [20, np.nan, 22, np.nan]])
    for title, wanted in (("exact V*", expected), ("learned V", expected + 2.5), ("error", expected * 0 + 2.5)):
        image = axes[title].images[0]
        np.testing.assert_array_equal(np.ma.getmaskarray(image.get_array()), np.ma.getmaskarray(wanted))
        np.testing.assert_allclose(image.get_array().compressed(), wanted.compressed())
        assert image.origin == "upper"
        assert axes[title].yaxis_inverted()
    texts = numbers_of(axes["exact V*"])
    assert (texts[1, 3], texts[2, 0], texts[2, 1]) == ("13.0", "20.0", "T\n-1")
    assert numbers_of(axes["error"])[1, 3] == "+2.5"


def test_value_panels_share_a_scale_and_the_error_is_symmetric():
    mdp = grid_model()
    axes = panels_of(values_figure(mdp, three_panels(mdp, positions(mdp) - 9, positions(mdp))))
    learned, exact, error = (axes[title].images[0].norm for title in ("learned V", "exact V*", "error"))
    assert (learned.vmin, learned.vmax) == (exact.vmin, exact.vmax) == (-9.0, 22.0)
    assert error.vmin == -error.vmax == -9.0
    assert axes["error"].images[0].cmap.name != axes["exact V*"].images[0].cmap.name


def test_arrows_follow_the_policy_with_ties_and_without_terminals():
    mdp = grid_model()
    policy = one_hot(mdp, 2)
    policy[6] = [0.5, 0.0, 0.0, 0.5]  # row 1, column 3
    axes = panels_of(values_figure(mdp, [Panel("V", positions(mdp), policy)]))["V"]
    arrows = arrows_of(axes)
    assert set(arrows) == {"↑", "↓", "←"}
    assert arrows["↑"] == arrows["←"] == {(1, 3)}
    assert arrows["↓"] == {(0, 0), (0, 1), (0, 3), (1, 0), (1, 1), (1, 2), (2, 0), (2, 2)}
    (left,) = (c for c in axes.collections if c.get_label() == "←")
    assert left.get_offsets()[0][0] < 3.0  # at the left edge of its cell


def test_arrows_of_a_large_grid_point_where_they_should():
    mdp = grid_model(("." * 20,) * 11 + ("S" + "." * 18 + "T",))
    axes = panels_of(values_figure(mdp, three_panels(mdp, -positions(mdp), 0 * positions(mdp))))
    (right,) = (c for c in axes["learned V"].collections if c.get_label() == "→")
    assert (right.U > 0).all()
    assert (right.V == 0).all()
    (up,) = (c for c in axes["exact V*"].collections if c.get_label() == "↑")
    assert (up.V < 0).all()  # rows are counted downwards
    (dashes,) = (c for c in axes["error"].collections if c.get_label() == "negative")
    assert len(dashes.get_offsets()) == (positions(mdp)[~mdp.terminal] > 0).sum()
    assert not axes["error"].texts


def test_walls_terminals_and_start_are_marked():
    mdp = grid_model()
    axes = panels_of(values_figure(mdp, [Panel("V", positions(mdp))]))["V"]

    def centres(label):
        (collection,) = (c for c in axes.collections if c.get_label() == label)
        boxes = [path.get_extents() for path in collection.get_paths()]
        return {((b.y0 + b.y1) / 2, (b.x0 + b.x1) / 2) for b in boxes}

    assert centres("wall") == {(0.0, 2.0)}
    assert centres("end") == {(2.0, 1.0), (2.0, 3.0)}
    assert centres("start") == {(0.0, 0.0)}
    elsewhere = np.eye(mdp.n_states)[5]
    axes = panels_of(values_figure(mdp, [Panel("V", positions(mdp))], start=elsewhere))["V"]
    assert centres("start") == {(1.0, 2.0)}


def test_without_a_shape_states_are_sorted_by_the_exact_values():
    mdp = plain_model(6)
    exact = np.array([3.0, 1.0, 2.0, 5.0, 4.0, 0.0])
    learned = exact + np.array([0.1, 0.2, 0.3, 0.4, 0.5, -0.6])
    values, errors = values_figure(mdp, three_panels(mdp, learned, exact)).axes
    heights = {c.get_label(): [bar.get_height() for bar in c] for c in values.containers}
    order = np.argsort(exact)
    np.testing.assert_allclose(heights["exact V*"], exact[order])
    np.testing.assert_allclose(heights["learned V"], learned[order])
    np.testing.assert_allclose([bar.get_height() for bar in errors.containers[0]], (learned - exact)[order])
    assert [t.get_text() for t in errors.get_xticklabels()] == [f"[room {s}]" for s in order]


def test_many_states_become_curves_and_a_chain_keeps_its_order():
    mdp = plain_model(500)
    exact = np.random.default_rng(0).normal(size=500)
    values, _ = values_figure(mdp, three_panels(mdp, exact + 1, exact)).axes
    lines = {line.get_label(): line.get_ydata() for line in values.lines}
    np.testing.assert_allclose(lines["exact V*"], np.sort(exact))
    np.testing.assert_allclose(lines["learned V"], np.sort(exact) + 1)
    chain = grid_model(("T" + "." * 98 + "S",))
    exact = np.sin(np.arange(100.0))
    values, _ = values_figure(chain, three_panels(chain, exact + 1, exact)).axes
    np.testing.assert_allclose({line.get_label(): line.get_ydata() for line in values.lines}["exact V*"], exact[1:])


@pytest.mark.parametrize("value", [0.0, -7.5, np.nan, np.inf, 1e-12, 1e300, 5e-324])
@pytest.mark.parametrize("mdp", [grid_model(), plain_model(4)], ids=["grid", "plain"])
def test_extreme_values_draw(mdp, value):
    v = np.full(mdp.n_states, value)
    figure = values_figure(mdp, [Panel("V", v), Panel("E", v, kind="error")])
    assert image_array(figure).ndim == 3


def test_pixels_and_png(tmp_path: Path):
    for mdp in (grid_model(("ST",)), plain_model(1)):
        figure = values_figure(mdp, [Panel("V", np.zeros(mdp.n_states))])
        pixels = image_array(figure)
        assert pixels.dtype == np.uint8
        assert pixels.shape == (*np.round(figure.get_size_inches()[::-1] * figure.dpi).astype(int), 3)
        assert pixels.std() > 0
    assert image_array(figure, dpi=50).shape[1] == pytest.approx(figure.get_size_inches()[0] * 50, abs=1)
    path = save_png(pixels, tmp_path / "values.png")
    np.testing.assert_array_equal(np.round(imread(path)[..., :3] * 255), pixels)
    with pytest.raises(FileNotFoundError):
        save_png(pixels, tmp_path / "missing" / "values.png")
    with pytest.raises(ValueError, match="the model has 1 states"):
        values_figure(mdp, [Panel("V", np.zeros(2))])


def metric_rows(members: int, regret=lambda step, member: 10.0 / step) -> list[dict[str, str]]:
    return [
        {
            "step": str(step),
            "member": str(member),
            "seed": str(member),
            "return/mean": "" if step < 200 else str(-member),
            "exact/v_rmse": str((member + 1) / step) if step % 200 == 0 else "",
            "exact/regret": str(regret(step, member)),
        }
        for step in range(100, 1001, 100)
        for member in range(members)
    ]


def test_columns_become_members_by_steps_with_blanks_left_out():
    rows = metric_rows(2)
    steps, values = by_member(rows, "exact/v_rmse")
    assert steps.tolist() == [200, 400, 600, 800, 1000]
    np.testing.assert_allclose(values, [1 / steps, 2 / steps])
    rows.append({"step": "200", "member": "1", "exact/v_rmse": "9"})
    assert by_member(rows, "exact/v_rmse")[1][1, 0] == 9.0
    steps, values = by_member([*rows, {"step": 1100, "member": 0, "return/mean": 5.0}], "return/mean")
    assert np.isnan(values[1, -1])
    assert values[0, -1] == 5.0
    with pytest.raises(ValueError, match="step and a member"):
        by_member([{"step": "1"}], "return/mean")


def test_the_band_covers_the_mean_and_stays_within_the_members():
    values = np.abs(np.random.default_rng(1).normal(size=(8, 5))) ** 3
    values[2, 1] = np.nan
    values[:, 4] = np.nan
    mean, low, high = mean_and_band(values)
    np.testing.assert_allclose(mean[:4], np.nanmean(values[:, :4], axis=0))
    assert np.isnan([mean[4], low[4], high[4]]).all()
    assert (np.nanmin(values[:, :4], axis=0) <= low[:4]).all()
    assert ((low < mean) & (mean < high))[:4].all()
    values[:4, 0], values[4:, 0] = np.nan, 3.0
    assert np.ravel([band[0] for band in mean_and_band(values)]) == pytest.approx(3.0)
    # Twice the standard error is what the interval of a mean is near to.
    many = np.random.default_rng(2).normal(size=(64, 200))
    _, low, high = mean_and_band(many)
    assert (high - low).mean() == pytest.approx(2 * 1.96 / 8, rel=0.05)


def test_of_many_members_the_band_is_what_resampling_tends_to():
    values = np.random.default_rng(0).exponential(size=(2000, 3))
    values[0, 1], values[:, 2] = np.nan, np.r_[1.0, np.zeros(1999)]
    mean, low, high = mean_and_band(values)
    np.testing.assert_allclose(mean, np.nanmean(values, axis=0))
    half = 1.96 * np.nanstd(values, axis=0) / np.sqrt(2000)
    np.testing.assert_allclose(high - mean, half, rtol=1e-3)
    _, resampled, above = mean_and_band(values[:1999])
    np.testing.assert_allclose([low[:2], high[:2]], [resampled[:2], above[:2]], rtol=0.01)
    assert low[2] == 0, "within what was seen"


def test_curves_show_mean_members_and_band():
    figure = curves_figure(metric_rows(4))
    error, regret, returns = figure.axes
    line = next(line for line in error.lines if line.get_label() == "exact/v_rmse")
    steps = np.arange(200, 1001, 200)
    np.testing.assert_allclose(line.get_xdata(), steps)
    np.testing.assert_allclose(line.get_ydata(), 2.5 / steps)
    assert len(error.lines) == 5
    assert len(error.collections) == 1
    assert "4 members" in error.get_title()
    assert returns.get_yscale() == "linear"
    assert returns.get_ylabel() == "undiscounted return"
    assert "training episodes, exploration included" in [line.get_label() for line in returns.lines]
    assert "exact/regret" in [text.get_text() for text in regret.get_legend().get_texts()]
    priced = [row | {"constraint/multiplier": 3.0, "exact/constraint_multiplier": 2.0} for row in metric_rows(1)]
    titles = [axes.get_title() for axes in curves_figure(priced).axes]
    assert titles[-1] == "multiplier of the constraint"
    single = curves_figure(metric_rows(1)).axes[0]
    assert (len(single.lines), len(single.collections)) == (1, 0)


def test_axes_are_logarithmic_where_it_helps():
    def scale(regret):
        return curves_figure(metric_rows(1, regret)).axes[1].get_yscale()

    assert scale(lambda step, _: 0.5 ** (step / 50)) == "log"
    assert scale(lambda step, _: 5 + step / 1000) == "linear"
    assert scale(lambda step, _: 1 - step / 1000) == "symlog"
    assert scale(lambda step, _: 0.0) == "linear"
    assert scale(lambda step, _: -step) == "linear"


def test_a_share_of_episodes_has_a_linear_axis_from_0():
    rates = [{"step": step, "member": m, "evaluation/event_rate": 0.4 * m} for step in (1, 2) for m in (0, 1)]
    (axes,) = curves_figure(rates).axes
    assert axes.get_yscale() == "linear"
    assert axes.get_ylim()[0] == 0


def test_infinite_regret_is_said_and_does_not_break_the_curve():
    figure = curves_figure(metric_rows(3, lambda step, member: np.inf if step == 100 else 1.0 / step))
    image_array(figure)
    assert "3 infinite values not shown" in figure.axes[1].get_xlabel()
    with pytest.raises(ValueError, match="no numbers"):
        curves_figure([{"step": 1, "member": 0, "exact/regret": ""}])
    with pytest.raises(ValueError, match="no rows"):
        curves_figure([])


def test_importing_the_report_loads_neither_matplotlib_nor_rich():
    code = (
        "import sys, rlnet.report, rlnet.report.terminal, rlnet.report.figures\n"
        "print([name for name in ('matplotlib', 'rich', 'torch') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_goal_pit_cliff_wall_and_jump_each_have_their_look():
    mdp = marked_model()
    figure = values_figure(mdp, [Panel("V", positions(mdp))])
    axes = panels_of(figure)["V"]

    def cells(label):
        boxes = [path.get_extents() for c in axes.collections if c.get_label() == label for path in c.get_paths()]
        return {(round((b.y0 + b.y1) / 2), round((b.x0 + b.x1) / 2)) for b in boxes}

    looks = {label: cells(label) for label in ("wall", "gain", "loss", "hazard", "jump")}
    assert looks == {"wall": {(0, 2)}, "gain": {(2, 3)}, "loss": {(2, 2)}, "hazard": {(2, 1)}, "jump": {(0, 3)}}
    colours = {tuple(c.get_facecolor()[0]) for c in axes.collections if c.get_label() in ("gain", "loss", "hazard")}
    assert len(colours) == 3
    letters = {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in axes.texts[-6:]}
    assert {letters[2, 1], letters[2, 2], letters[2, 3]} == {"!\n-100", "P\n-1", "G\n+1"}
    assert any(text.get_text() == "J+10" for text in axes.texts)
    key = figure.texts[-1].get_text().replace("\n", " ")
    for text in ("G: end that pays (+1)", "P: end that costs (-1)", "!: entering costs (-100)", "hatched: wall"):
        assert text in key


def test_the_map_of_the_page_shows_them_too():
    mdp = marked_model()
    (values, visits) = maps(mdp, [Panel("V", positions(mdp))], np.ones(mdp.n_states, dtype=int))
    for drawing in (values, visits):
        groups = dict(re.findall(r'<g[^>]*translate\((\d+ \d+)\)">(.*?)</g>', drawing["svg"]))
        assert "0" not in groups.get("80 0", ""), "a wall is the background"
        texts = {place: re.findall(r">([^<>]+)</text>", inner) for place, inner in groups.items()}
        assert (texts["40 80"], texts["80 80"], texts["120 80"]) == (["!", "-100"], ["P", "-1"], ["G", "+1"])
        assert "J+10" in texts["120 0"]
    cliff = re.search(r'<g([^>]*)transform="translate\(40 80\)"', values["svg"]).group(1)
    assert "data-s" not in cliff, "nobody can stand there"


def test_the_discounted_return_of_training_stands_beside_the_exact_one():
    rows = [row | {"exact/return": "0.5", "return/discounted": "0.4"} for row in metric_rows(1)]
    axes = next(axes for axes in curves_figure(rows).axes if axes.get_title() == "discounted return")
    assert axes.get_ylabel() == "discounted return"
    assert {line.get_label(): line.get_ydata()[0] for line in axes.lines} == {
        "J(π) of the judged policy, computed": 0.5,
        "training episodes, exploration included": 0.4,
    }
