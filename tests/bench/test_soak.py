"""The figures of long runs, from samples whose memory and speed are known."""

import pytest

from rlnet.bench.soak import LEARNED, MIB, Sample, _last_step, measured


def samples(memory, speed) -> list[Sample]:
    """Samples of a run of 1000 steps: `memory(step)` in MiB, `speed(step)` in steps per second of processor time."""
    found, cpu = [Sample(LEARNED - 1, 0.0, 0.0, 0.0)], 0.0  # which does not count
    for step in range(0, 1001, 5):
        cpu += 5 / speed(step)
        found.append(Sample(LEARNED + step, 2 * cpu, cpu, MIB * memory(step)))
    return found


def test_memory_that_stays_and_a_speed_that_is_kept_are_fine():
    found = measured("x", samples(lambda step: 100 + (10 if step >= 50 else 0), lambda step: 20.0))
    assert found.slope == pytest.approx(0, abs=1e-9)
    assert (found.memory, found.first, found.last) == pytest.approx((110, 20, 20))
    assert found.fine


@pytest.mark.parametrize(
    ("memory", "speed", "slope", "ratio"),
    [
        (lambda step: 100 + 0.01 * step, lambda step: 20.0, 0.01e6, 1.0),
        (lambda step: 100.0, lambda step: 20.0 if step < 500 else 18.0, 0.0, 0.9),
    ],
)
def test_memory_that_grows_and_a_speed_that_falls_are_not(memory, speed, slope, ratio):
    found = measured("x", samples(memory, speed))
    assert (found.slope, found.last / found.first) == pytest.approx((slope, ratio), abs=1e-6)
    assert not found.fine


def test_the_last_step_is_read_from_whole_lines(tmp_path):
    path = tmp_path / "metrics.csv"
    assert _last_step(path) == 0
    path.write_text("step,member\n")
    assert _last_step(path) == 0
    path.write_text("step,member\n" + "".join(f"{step},0,{'x' * 50}\n" for step in range(200)) + "20")
    assert _last_step(path) == 199
