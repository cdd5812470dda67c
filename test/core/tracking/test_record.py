from io import StringIO

import numpy as np

from eomt_ext_core.obstacles import Obstacle, ObstacleFrame, Reason
from eomt_ext_core.tracking import ObstacleRecord, obstacle_record

PLAIN = Obstacle(0.75, (1, 2, 3, 4), 9, (2.5, 4.0))
SEEN = Obstacle(0.75, (1, 2, 3, 4), 9, (2.5, 4.0), track_id=5, state="confirmed", evidence=0.98765)
GONE = Obstacle(0.5, (-2, 2, 3, 4), 0, (2.5, 4.0), track_id=6, state="coasting", evidence=0.5)


def test_a_row_for_each_obstacle_in_the_image_or_not() -> None:
    file = StringIO()
    record, mask = ObstacleRecord(file, "frame", "camera"), np.zeros((9, 9), np.bool_)
    record.add(ObstacleFrame(mask, [PLAIN], 0), 0, "a,b")
    why = [Reason("car", "road", 0.25, 1.0, 0.5, 0.75), None]
    record.add(ObstacleFrame(mask, [SEEN], 0, [GONE]), 1, "", why=why, ranges=[(12.345, 0.5), None])
    assert file.getvalue().splitlines() == [
        "frame,camera,track_id,state,evidence,score,left,top,width,height,area_px,range_m,sigma_range_m,"
        "nearest_class,class_beneath,max_prob,entropy,energy,msp",
        '0,"a,b",,,,0.7500,1,2,3,4,9,,,,,,,,',
        "1,,5,confirmed,0.9877,0.7500,1,2,3,4,9,12.35,0.50,car,road,0.2500,1.0000,0.5000,0.7500",
        "1,,6,coasting,0.5000,0.5000,-2,2,3,4,0,,,,,,,,",
    ]


def test_names_may_be_any_bytes(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with obstacle_record(tmp_path / "o.csv", "camera") as record:
        record.add(ObstacleFrame(np.zeros((9, 9), np.bool_), [PLAIN], 0), "caf\udce9")
    assert b"caf\\udce9,,,," in (tmp_path / "o.csv").read_bytes()
