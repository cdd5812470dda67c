from pathlib import Path

import pytest

from eomt_ext_core import processor
from eomt_ext_core.processor import cpu_info, multiplies_bf16

X86 = "processor\t: 0\nmodel name\t: A CPU\nflags\t\t: fpu avx512f {}\n\nprocessor\t: 1\nmodel name\t: Another\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd i8mm {}\nCPU part\t: 0xd4f\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (X86.format("avx512_bf16"), True),
        (X86.format("amx_bf16"), True),
        (X86.format(""), False),
        (ARM.format("bf16"), True),
        (ARM.format("svebf16x"), False),
        ("", False),
        (None, False),
    ],
)
def test_bf16_is_a_flag_of_either_kind_of_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, expected: bool
) -> None:
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(processor, "CPU_INFO", tmp_path / "cpuinfo")
    multiplies_bf16.cache_clear()
    try:
        assert multiplies_bf16() is expected
    finally:
        multiplies_bf16.cache_clear()


def test_the_first_core_speaks_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(X86)
    monkeypatch.setattr(processor, "CPU_INFO", tmp_path / "cpuinfo")
    assert cpu_info("model name") == "A CPU"
    assert cpu_info("nonsense") == ""
