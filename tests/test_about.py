"""What a file of the configuration says about itself."""

from __future__ import annotations

from pathlib import Path

from lra_bench.about import first_sentence


def test_the_first_sentence_is_what_a_file_says_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    for text, sentence in (
        ("# @package _global_\n# Short. And more\n# of it.\na: 1\n", "Short."),
        ("# Over two\n# lines\na: 1\n", "Over two lines."),
        ("a: 1\n# Too late.\n", ""),
    ):
        path.write_text(text)
        assert first_sentence(path) == sentence
