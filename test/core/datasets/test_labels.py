import numpy as np
import pytest

from eomt_ext_core.datasets.labels import PLAIN_LABELS, LabelCensus, LabelValues
from eomt_ext_core.errors import ConfigError, DatasetError


def test_the_text_of_the_option_is_understood() -> None:
    values = LabelValues.parse("normal=1, anomaly=2-4,void=0,void=255")
    assert values.meaning == {0: 255, 1: 0, 2: 1, 3: 1, 4: 1, 255: 255}
    stored = np.array([[0, 1], [4, 255]], np.uint8)
    assert values.apply(stored).tolist() == [[255, 0], [1, 255]]
    assert values.apply(stored.astype(np.uint16)).dtype == np.uint8
    assert str(values) == "1 (normal), 2, 3, 4 (anomalous), 0, 255 (void)"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "label values must look like normal=0,anomaly=255"),
        ("0,255", "got '0'"),
        ("normal=0,anomalous=1", "got 'anomalous=1'"),
        ("anomaly=2-", "got 'anomaly=2-'"),
        ("anomaly=-1", "got 'anomaly=-1'"),
        ("anomaly=256", "each from 0 to 255, got 'anomaly=256'"),
        ("normal=0,anomaly=0-3", "a label value must have one meaning, 0 has two"),
    ],
)
def test_another_text_is_refused(text: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        LabelValues.parse(text)


def test_only_values_of_eight_bits_and_known_kinds_are_taken() -> None:
    with pytest.raises(ConfigError, match=r"must map to 0, 1 or 255, got \{0: 2\}"):
        LabelValues({0: 2})
    with pytest.raises(ConfigError, match="must map to 0, 1 or 255"):
        LabelValues({})
    with pytest.raises(ConfigError, match="must lie between 0 and 255, got 256"):
        LabelValues({256: 1})


def test_foreign_values_are_named_also_those_of_wider_types() -> None:
    with pytest.raises(DatasetError, match=r"got 2, 9: define their meaning by --label-values"):
        PLAIN_LABELS.apply(np.array([0, 2, 9, 255], np.uint8))
    with pytest.raises(DatasetError, match=r"got -1, 300"):
        PLAIN_LABELS.apply(np.array([0, -1, 300], np.int32))


def test_a_census_of_parts_is_that_of_the_whole() -> None:
    first, second, whole = LabelCensus(), LabelCensus(), LabelCensus()
    for census, values in ((first, [0, 0, 255]), (second, [255, 7])):
        for counted in (census, whole):
            counted.add(np.array(values, np.uint8), LabelValues({0: 0, 7: 0, 255: 255}))
    assert first.missing == ("anomalous",)
    first.merge(second)
    assert first == whole
    assert "0 (normal) in 2 pixels, 7 (normal) in 1 pixels, 255 (void) in 2 pixels: if 255" in whole.problem()
    assert "--label-values normal=0,normal=7,anomaly=255" in whole.problem()
    whole.add(np.array([1], np.uint8), PLAIN_LABELS)
    assert whole.problem() == ""
