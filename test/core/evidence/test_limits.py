"""What the package can claim is written once."""

from pathlib import Path

from eomt_ext_core.evidence.limits import CLAIMS, page, plain

ROOT = Path(__file__).resolve().parents[3]


def test_the_committed_page_is_that_of_the_module() -> None:
    assert (ROOT / "docs" / "safety.md").read_text(encoding="utf-8") == page(), (
        "run: python -m eomt_ext_core.evidence.limits > docs/safety.md"
    )


def test_texts_without_marks_hold_no_markdown() -> None:
    assert not any(sign in plain(text) for claim in CLAIMS for text in claim for sign in "[]`\n")
