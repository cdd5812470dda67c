"""What was the fastest at an earlier start, kept in a cache; a clock on the device is played."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from eomt_ext_core.kernels import choice
from eomt_ext_core.kernels.choice import fastest
from eomt_ext_core.kernels.kept_choice import KeptChoice

CPU = torch.device("cpu")
FACTS = {"device": "a GPU", "torch": "2.11"}
DAMAGED = {
    "no JSON": "{",
    "another type": "[]",
    "facts of another type": json.dumps({"facts": 3, "way": "b"}),
    "another version": json.dumps({"facts": FACTS | {"torch": "2.12", "ways": "plain, b"}, "way": "b"}),
    "no such way": json.dumps({"facts": FACTS | {"ways": "plain, b"}, "way": "c"}),
    "a way of another type": json.dumps({"facts": FACTS | {"ways": "plain, b"}, "way": ["b"]}),
    "nested": "[" * 50_000,
    "large": " " * (1 << 17),
    "no text": "\udcff",
}


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Start:
    """A start of a program: which ways it times, and which is chosen."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.timed: list[float] = []
        self.us = {1.0: 90.0, 1.5: 50.0}
        monkeypatch.setattr(choice, "time_us", self.time_us)

    def time_us(self, way: Callable[[], Tensor], device: torch.device) -> float:
        self.timed.append(float(way()[0]))
        return self.us[self.timed[-1]]

    def choose(self, second: float = 1.5, length: int = 3, inputs: str = "(2, 3)") -> str:
        self.timed.clear()
        ways = {"plain": lambda: torch.ones(length), "b": lambda: torch.full((length,), second)}
        return fastest("a sum", ways, 0.5, CPU, inputs)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Start:
    return Start(monkeypatch)


def test_the_next_start_times_nothing(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    assert (start.choose(), start.timed) == ("b", [1.0, 1.5])
    start.us[1.0] = 1.0
    with caplog.at_level(logging.INFO):
        assert (start.choose(), start.timed) == ("b", [])
    assert caplog.messages == ["a sum on cpu by b, as at an earlier start"]


def test_other_sizes_devices_and_versions_are_timed(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    start.choose()
    for other in ({"length": 4}, {"inputs": "(2, 4)"}):
        start.choose(**other)
        assert start.timed, other
    assert set(choice.machine_facts(CPU)) == {"device", "driver", "torch", "cuda", "triton"}
    for name in choice.machine_facts(CPU):
        facts = choice.machine_facts(CPU) | {name: "another"}
        monkeypatch.setattr(choice, "machine_facts", lambda device, facts=facts: facts)
        start.choose()
        assert start.timed, name


def test_a_kept_way_that_does_not_agree_any_more_is_not_taken(start: Start) -> None:
    start.choose()
    assert (start.choose(second=7.0), start.timed) == ("plain", [1.0])


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_file_that_cannot_be_one_is_ignored_and_replaced(text: str, caplog: pytest.LogCaptureFixture) -> None:
    kept = KeptChoice(FACTS, ["plain", "b"])
    kept.path.parent.mkdir(parents=True)
    kept.path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with caplog.at_level(logging.DEBUG):
        assert kept.read() is None
    assert caplog.messages[0].startswith("a kept choice is ignored: ")
    kept.write("b")
    assert kept.read() == "b"
    assert [path.name for path in kept.path.parent.iterdir()] == [kept.path.name]


def test_a_cache_that_cannot_be_written_costs_only_time(start: Start, cache: Path) -> None:
    cache.write_text("a file in the place of the folder")
    for _ in range(2):
        assert (start.choose(), start.timed) == ("b", [1.0, 1.5])


def test_tilings_are_timed_once_for_all_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    triton = pytest.importorskip("triton")
    from triton.runtime import autotuner

    from eomt_ext_core.scoring import fused_triton

    class Driver:
        @staticmethod
        def get_current_target() -> Any:
            return triton.backends.compiler.GPUTarget("cuda", 90, 32)

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(autotuner, "driver", type("Drivers", (), {"active": Driver}))
    for tuned in (fused_triton._TUNED, fused_triton._TUNED_LEAN):
        assert tuned.cache_results
        monkeypatch.setattr(tuned, "cache", {})
        tiles, benches = tuned.configs, []

        def bench(tuned: Any = tuned, tiles: Any = tiles, benches: list[int] = benches) -> None:
            benches.append(1)
            tuned.configs_timings = {tile: 1.0 + index for index, tile in enumerate(reversed(tiles))}

        key = (2, 100, 19)
        for _ in range(2):
            tuned.check_disk_cache(key, tiles, bench)
        assert benches == [1]
        assert str(tuned.cache[key]) == str(tiles[-1])
