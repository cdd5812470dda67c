import numpy as np
import pytest

from eomt_ext_core.tracking.box_motion import BoxMotion


def followed(step_s: list[float], scale: float = 1.0) -> BoxMotion:
    """A box of 20 pixels that moves by 90 and -30 pixels a second."""
    motion, at = BoxMotion(scale * np.array([100.0, 200.0, 20.0, 20.0])), np.array([100.0, 200.0])
    for each in step_s:
        at = at + each * np.array([90.0, -30.0])
        motion.predict(each)
        motion.correct(scale * np.array([*at, 20.0, 20.0]))
    return motion


def test_the_velocity_is_learned_whatever_the_steps() -> None:
    for step_s in ([0.05] * 30, [0.02, 0.2, 0.05, 0.1] * 8):
        motion = followed(step_s)
        np.testing.assert_allclose(motion.velocity, [90, -30], rtol=0.02)
        before = motion.box
        motion.predict(0.5)
        np.testing.assert_allclose(motion.box - before, [45, -15, 0, 0], atol=1)


def test_large_and_small_are_alike() -> None:
    once, tenfold = followed([0.1] * 3), followed([0.1] * 3, scale=10)
    np.testing.assert_allclose(10 * once.box, tenfold.box)
    np.testing.assert_allclose(10 * once.velocity, tenfold.velocity)


def test_between_what_was_expected_and_what_is_seen() -> None:
    motion = BoxMotion(np.array([100.0, 100.0, 20.0, 20.0]))
    motion.correct(np.array([104.0, 100.0, 28.0, 20.0]))
    assert motion.box == pytest.approx([102, 100, 24, 20])  # both are as certain
    motion.predict(1.0)  # of which nothing is known
    motion.correct(np.array([150.0, 90.0, 30.0, 20.0]))
    assert motion.box == pytest.approx([150, 90, 30, 20], abs=0.5)


def test_what_is_smaller_is_a_part_and_moves_the_box_only_to_hold_it() -> None:
    motion = BoxMotion(np.array([100.0, 100.0, 40.0, 40.0]))
    motion.predict(1.0)
    motion.correct(np.array([105.0, 70.0, 20.0, 40.0]))
    assert motion.box == pytest.approx([100, 70, 39, 40], abs=0.5)  # from 80.5 to 119.5, which holds 95 to 115
    motion.predict(1.0)
    motion.correct(np.array([100.0 + motion.velocity[0], 75.0 + motion.velocity[1], 80.0, 40.0]))
    assert motion.box[2] == pytest.approx(80, abs=0.5), "what is larger is believed"
