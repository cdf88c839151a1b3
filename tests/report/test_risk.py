"""The section of a page on risk: what test episodes would say, and the picture of return against risk."""

import pytest

from rlnet.report.risk import frontier_figure, risk_section

FRONTIER = [{"penalty": x, "return": r, "probability": p} for x, r, p in ((0, 11.0, 0.2), (1, 10.5, 0.1), (9, 10.0, 0))]


def found(ret=9.0, probability=0.15, frontier=FRONTIER, **more):
    members = [{"return": ret, "probability": probability}]
    about = {"event": "crash", "horizon": 40, "optimal": 0.2, "least": 0.0}
    return {**about, "frontier": frontier, "members": members, **more}


def test_a_frontier_far_above_the_learned_policies_has_a_picture_of_its_own():
    assert len(frontier_figure(found(ret=9.0)).axes) == 1
    assert len(frontier_figure(found(ret="-inf")).axes) == 1  # as JSON holds it
    left, right = frontier_figure(found(ret=-800.0)).axes
    assert left.get_ylim()[0] < -800
    assert right.get_ylim()[0] > 9
    assert [line.get_label() for line in right.lines] == ["optimal as crash costs more"]
    (axes,) = frontier_figure(found(optimal_return=10.9)).axes
    (star,) = (line for line in axes.lines if line.get_label() == "optimal")
    assert star.get_xydata().tolist() == [[0.2, 10.9]]


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_a_frontier_of_one_point_keeps_near_probabilities(probability):
    one = [{"penalty": 0.0, "return": 1.0, "probability": probability}] * 2
    (axes,) = frontier_figure(found(1.0, probability, one)).axes
    low, high = axes.get_xlim()
    assert -0.05 < low < probability < high < 1.05 or (probability == 0 and -0.05 < low < 0 < high)


@pytest.mark.parametrize(
    ("probability", "said"),
    [
        (1.0, ["0.963 to 1", "0.9962 to 1", "0.99962 to 1", "0.999962 to 1"]),
        (0.0, ["0 to 0.037", "0 to 0.0038", "0 to 0.00038", "0 to 0.000038"]),
        (0.5, ["0.4 to 0.6", "0.469 to 0.531", "0.49 to 0.51", "0.4969 to 0.5031"]),
    ],
)
def test_intervals_tell_their_ends_apart(probability, said):
    (event,) = risk_section({"events": [found(probability=probability)]})
    assert [row[-1] for row in event["tests"]] == said


def test_under_a_constraint_the_optimum_is_that_of_its_limit():
    under = {"limit": 0.1, "multiplier": 2.5, "return": 10.4, "probability": 0.1, "share": 1.0}
    (event,) = risk_section({"events": [found(constraint=under)]})
    assert event["rows"][1][0] == "of the optimum under constraint.limit=0.1 (λ* = 2.5)"
    assert len(event["rows"]) == 3
    assert "a policy that knows" not in event["told"]
    under |= {"optimal_return": 10.4, "optimal_return_of_all_policies": 10.45}
    (event,) = risk_section({"events": [found(constraint=under)]})
    assert "attains a return of 10.4, a policy that knows the steps left at most 10.45. To tell" in event["told"]
