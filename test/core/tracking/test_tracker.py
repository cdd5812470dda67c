import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eomt_ext_core.errors import ConfigError
from eomt_ext_core.obstacles import Obstacle, ObstacleFrame
from eomt_ext_core.tracking import Tracker, TrackingConfig
from eomt_ext_core.tracking.tracker import MOST_FOLLOWED

RATE_HZ = 15.0
EAGER = TrackingConfig(confirm_evidence=0.5, keep_evidence=0.0)
NOTHING: list[Obstacle] = []


def obstacle(x: float, y: float = 50, size: float = 20, score: float = 0.9) -> Obstacle:
    return Obstacle(score, (x, y, size, size), 300, (x + size / 2, y + size / 2))  # type: ignore[arg-type]


def image(obstacles: list[Obstacle]) -> ObstacleFrame:
    return ObstacleFrame(np.zeros((480, 900), np.bool_), obstacles, 0)


def drive(*images: list[Obstacle], config: TrackingConfig = EAGER, tracker: Tracker | None = None) -> list[Any]:
    tracker = tracker or Tracker()
    return [tracker.follow(image(each), number / RATE_HZ, config) for number, each in enumerate(images)]


def ids(frame: ObstacleFrame) -> list[int | None]:
    return [each.track_id for each in frame.obstacles]


def test_what_moves_keeps_its_id_and_what_comes_gets_another() -> None:
    frames = drive(*([obstacle(100 + 8 * k), obstacle(500 - 11 * k, y=200)] for k in range(20)))
    assert {tuple(ids(frame)) for frame in frames} == {(1, 2)}
    frames = drive([obstacle(100)], [obstacle(300), obstacle(101)])
    assert [ids(frame) for frame in frames] == [[1], [2, 1]]


def test_a_box_that_would_leave_the_image_ends_there() -> None:
    frames = drive(*([obstacle(820 + 10 * k, size=40)] for k in range(4)), [obstacle(875, size=25)], NOTHING)
    for frame in frames:
        for x, y, width, height in (each.box_xywh for each in frame.listed):
            assert 0 <= x < x + width <= 900
            assert 0 <= y < y + height <= 480
    assert len(frames[-1].coasting) == 1


def test_nothing_else_of_what_was_found_changes() -> None:
    found = image([obstacle(100), obstacle(300, score=0.6)])
    followed = Tracker().follow(found, 0.0, EAGER)
    plain = [replace(each, track_id=None, state=None, evidence=None) for each in followed.obstacles]
    assert plain == found.obstacles
    assert followed.mask is found.mask


def test_small_and_fast_is_followed_without_overlap() -> None:
    frames = drive(*([obstacle(100 + 9 * k, size=8)] for k in range(10)))
    assert [ids(frame) for frame in frames] == [[1]] * 10


def test_evidence_is_the_sum_of_log_odds_and_older_ones_count_less() -> None:
    config = TrackingConfig(memory_frames=2.0, confirm_frames=2, confirm_evidence=0.9, keep_evidence=0.9)
    frames = drive([obstacle(9, score=0.8)], [obstacle(9, score=0.7)], [obstacle(9, score=0.8)], config=config)
    expected = [math.log(4), math.exp(-0.5) * math.log(4) + math.log(0.7 / 0.3)]
    expected.append(math.exp(-0.5) * expected[-1] + math.log(4))
    evidence = [1 / (1 + math.exp(-log_odds)) for log_odds in expected]
    np.testing.assert_allclose([frame.obstacles[0].evidence for frame in frames], evidence)
    assert evidence[1] < 0.9 < evidence[2]
    assert [frame.obstacles[0].state for frame in frames] == ["tentative", "tentative", "confirmed"]


def test_a_score_counts_by_how_far_it_is_above_the_threshold() -> None:
    def evidence(score: float, threshold: float) -> float | None:
        found = image([obstacle(9, score=score)])
        return Tracker().follow(found, 0.0, EAGER, threshold=threshold).obstacles[0].evidence

    assert evidence(0.3, 0.3) == pytest.approx(0.5)
    assert evidence(0.5, 0.2) == pytest.approx(0.8)
    assert evidence(1.0, 0.5) == evidence(0.99, 0.0) == pytest.approx(1 / (1 + math.exp(-4)))


def test_defaults_confirm_the_certain_at_once() -> None:
    config = TrackingConfig()
    frames = drive(*([obstacle(9, score=0.97), obstacle(200, score=0.6)] for _ in range(60)), config=config)
    certain, doubtful = zip(*[[each.state for each in frame.obstacles] for frame in frames], strict=True)
    assert set(certain) == {"confirmed"}
    assert set(doubtful) == {"tentative"}
    assert ids(frames[-1].confirmed()) == [1]


def test_confirmed_it_stays_until_the_evidence_is_too_little_to_keep_it() -> None:
    config = TrackingConfig(memory_frames=1.0, confirm_evidence=0.9, keep_evidence=0.6)
    frames = drive(*([obstacle(9, score=score)] for score in (0.85, 0.95, 0.7, 0.51, 0.85)), config=config)
    states = ["tentative", "confirmed", "confirmed", "confirmed", "confirmed"]
    assert [frame.obstacles[0].state for frame in frames] == states
    frames = drive([obstacle(9, score=0.91)], [obstacle(9, score=0.3)], NOTHING, [obstacle(9)], config=config)
    assert [frame.obstacles[0].state for frame in frames if frame.obstacles] == ["confirmed", "tentative", "tentative"]
    assert [len(frame.coasting) for frame in frames] == [0, 0, 0, 0]


def test_the_box_of_a_track_keeps_what_is_seen_in_parts_whole() -> None:
    whole, part = obstacle(100, size=60), obstacle(130, y=80, size=12)
    frames = drive(*5 * [[whole]], *4 * [[part]], [whole])
    for frame in frames:
        (x, y, width, height) = frame.obstacles[0].box_xywh
        assert (x, y, x + width, y + height) == pytest.approx((100, 50, 160, 110), abs=8)
    assert {frame.obstacles[0].area_px for frame in frames} == {300}
    (x, y, width, height) = drive([whole], *150 * [[part]])[-1].obstacles[0].box_xywh
    assert (x, y, width, height) == pytest.approx((130, 80, 12, 12), abs=2), "it is no larger after all"


def test_what_is_not_seen_coasts_as_it_moved_and_is_dropped_then() -> None:
    config = replace(EAGER, coast_frames=3)
    frames = drive(*([obstacle(100 + 6 * k)] for k in range(12)), *4 * [NOTHING], [obstacle(196)], config=config)
    assert [len(frame.coasting) for frame in frames] == 12 * [0] + [1, 1, 1, 0, 0]
    for gone, frame in enumerate(frames[12:15]):
        (coasting,) = frame.coasting
        assert (coasting.track_id, coasting.state, coasting.area_px) == (1, "coasting", 0)
        assert coasting.box_xywh == pytest.approx((100 + 6 * (12 + gone), 50, 20, 20), abs=1.5)
        assert coasting.evidence < frames[11].obstacles[0].evidence
    assert ids(frames[-1]) == [2], "no id is given twice"


def test_it_coasts_as_long_as_it_may_without_a_number_running_over() -> None:
    config = replace(EAGER, coast_frames=1000, memory_frames=1e9)
    frames = drive([obstacle(400)], *1001 * [NOTHING], config=config)
    assert [len(frame.coasting) for frame in frames] == [0, *1000 * [1], 0]
    assert frames[1000].coasting[0].evidence == 0


def test_what_leaves_the_image_does_not_coast() -> None:
    frames = drive(*([obstacle(826 + 10 * k)] for k in range(6)), NOTHING, NOTHING)
    assert [len(frame.coasting) for frame in frames[5:]] == [0, 1, 0]


def test_what_comes_back_in_time_is_the_same() -> None:
    frames = drive(*([obstacle(100 + 6 * k)] for k in range(8)), NOTHING, NOTHING, [obstacle(160)])
    assert ids(frames[-1]) == [1]
    assert frames[-1].obstacles[0].state == "confirmed"
    assert frames[-1].coasting == []


def test_what_is_not_confirmed_does_not_coast() -> None:
    config = replace(EAGER, confirm_frames=2)
    frames = drive([obstacle(100)], NOTHING, [obstacle(100)], config=config)
    assert frames[1].coasting == []
    assert (ids(frames[2]), frames[2].obstacles[0].state) == ([1], "confirmed")


@pytest.mark.parametrize(
    ("stamps_s", "expected"),
    [
        ([5.0, 5.9, 6.8], [1, 1, 1]),
        ([5.0, 6.1, 6.2], [1, 2, 2]),
        ([5.0, 4.9, 5.0], [1, 2, 2]),
        ([5.0, math.nan, 5.1, 5.2], [1, 2, 3, 3]),
        ([1.7e9] * 4, [1, 1, 1, 1]),
    ],
)
def test_a_jump_of_time_starts_over(stamps_s: list[float], expected: list[int]) -> None:
    tracker = Tracker()
    frames = [tracker.follow(image([obstacle(100)]), stamp_s, EAGER) for stamp_s in stamps_s]
    assert [ids(frame)[0] for frame in frames] == expected


def test_numbers_that_are_none_are_passed_on_unfollowed() -> None:
    nan = math.nan
    strange = [
        obstacle(nan),
        obstacle(10, size=nan),
        obstacle(10, size=0),
        obstacle(10, score=nan),
        obstacle(1e300),
        obstacle(10, size=math.inf),
        obstacle(10, score=2.0),
    ]
    for frame in drive([obstacle(100), *strange], [*strange, obstacle(101)]):
        assert sorted(ids(frame), key=str) == [1, *[None] * len(strange)]
        assert len(frame.confirmed().obstacles) == 1


def test_thousands_of_obstacles_are_survived_in_bounded_memory() -> None:
    random = np.random.default_rng(0)
    tracker, config = Tracker(), replace(EAGER, coast_frames=3)
    for number in range(6):
        corners = random.integers(0, 2000, (5000, 2)).tolist()
        frame = tracker.follow(image([obstacle(x, y, 3) for x, y in corners]), number / RATE_HZ, config)
        followed = [each for each in ids(frame) if each is not None]
        assert len(followed) == len(set(followed)) == MOST_FOLLOWED
        assert len(frame.coasting) <= 3 * MOST_FOLLOWED


boxes = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 30), st.integers(1, 30))
drives = st.lists(st.lists(st.tuples(boxes, st.floats(0, 1)), max_size=6), max_size=8)


@settings(max_examples=40, deadline=None)
@given(drives, st.lists(st.sampled_from([-0.1, 0.0, 0.07, 0.9, 1.1]), min_size=8, max_size=8))
def test_in_whatever_comes_ids_are_unique_and_never_return(seen: list[Any], steps_s: list[float]) -> None:
    tracker, stamp_s = Tracker(), 0.0
    last, gone, highest = set[int](), set[int](), 0
    for obstacles, step_s in zip(seen, steps_s, strict=False):
        stamp_s = round(stamp_s + step_s, 3)
        found = [Obstacle(score, box, box[2] * box[3], (0.0, 0.0)) for box, score in obstacles]
        frame = tracker.follow(image(found), stamp_s, replace(EAGER, coast_frames=1))
        assert [each.score for each in frame.obstacles] == [score for _, score in obstacles]
        for (x, y, width, height), (left, top, w, h) in zip(
            (each.box_xywh for each in frame.obstacles), (box for box, _ in obstacles), strict=True
        ):
            assert x <= left
            assert y <= top
            assert x + width >= left + w
            assert y + height >= top + h
        all_ids = [each.track_id for each in frame.obstacles + frame.coasting]
        assert len(set(all_ids)) == len(all_ids)
        present = {each for each in all_ids if each is not None}
        assert not present & gone
        assert all(each > highest for each in present - last)
        if not 0 <= step_s <= 1:
            gone |= last
            assert not frame.coasting
            assert not present & last
        last, highest = last | present, max(highest, *present, 0)
        assert all(0 <= each.evidence <= 1 for each in frame.obstacles if each.evidence is not None)


def test_a_broken_rule_is_named() -> None:
    with pytest.raises(ConfigError, match="confirm_frames must be at least 1, got 0"):
        TrackingConfig(confirm_frames=0)
    with pytest.raises(ConfigError, match=r"keep_evidence must be at most confirm_evidence 0\.8, got 0\.9"):
        TrackingConfig(confirm_evidence=0.8, keep_evidence=0.9)
