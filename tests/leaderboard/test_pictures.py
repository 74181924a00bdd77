"""Pictures: which there are, the same bytes, and names that are no formulas."""

from __future__ import annotations

import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from made_up_records import make, tables_of
from PIL import Image

from lra_bench import record as records
from lra_bench.cli import main
from lra_bench.leaderboard.pictures import pictures

CURVE = [{"step": 10 * step, "validation_accuracy": 0.2 + step / 100} for step in range(1, 9)]
KINDS = {f"{kind}.{form}" for kind in ("cost", "curves", "ranks") for form in ("svg", "png")}


def test_they_are_the_same_bytes_in_whatever_order() -> None:
    made = [
        make(seed, 700 + 30 * index, model=model, curve=CURVE, train_seconds=60.0 + index)
        for index, model in enumerate(("transformer", "local"))
        for seed in range(2)
    ]
    first = dict(pictures(tables_of(*made)))
    assert set(first) == {f"cpu-{kind}" for kind in KINDS}
    assert dict(pictures(tables_of(*made[::-1]))) == first
    for name, content in first.items():
        if name.endswith(".png"):
            assert min(Image.open(BytesIO(content)).size) > 100
        else:
            # No date and no version: the same input is the same file next year.
            assert b"dc:date" not in content


def test_no_name_is_a_formula_or_a_place() -> None:
    hostile = "../$\\frac{$ 名 <b>&"
    made = [make(0, 700 + 100 * n, model=f"{hostile}{n}", setting=hostile) for n in range(2)]
    found = dict(pictures(tables_of(*made, make(setting="..-$--frac-$ x"))))
    assert all("/" not in name and not name.startswith(".") for name in found)
    svg = next(content for name, content in found.items() if name.endswith("ranks.svg"))
    assert b"<b>" not in svg


def test_without_results_there_is_nothing_to_draw() -> None:
    assert list(pictures(tables_of())) == []
    assert list(pictures(tables_of(make(status="failed")))) == []


def test_the_verb_draws_them_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records.write(make(curve=CURVE), tmp_path)
    assert main(["leaderboard", str(tmp_path), "--pictures"]) == 0
    assert f"pictures: {tmp_path / 'pictures'}" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    # One method has no rank.
    assert names == {f"cpu-{kind}" for kind in KINDS if "ranks" not in kind}


def test_without_matplotlib_it_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    script = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from lra_bench.cli import main\n"
        f"sys.exit(main(['leaderboard', {str(tmp_path)!r}, '--pictures']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "pictures need matplotlib: pip install 'lra_bench[figures]'" in done.stderr


@pytest.mark.parametrize(("number", "lines"), [(2, 4), (8, 8)])
def test_many_methods_have_a_line_each(number: int, lines: int) -> None:
    made = [
        make(seed, model=f"model_{index}", curve=CURVE)
        for index in range(number)
        for seed in (0, 1)
    ]
    svg = dict(pictures(tables_of(*made)))["cpu-curves.svg"].decode()
    colors = re.findall(r'style="fill: none; stroke: (#[0-9a-f]{6}); stroke-opacity', svg)
    assert len(colors) == lines
