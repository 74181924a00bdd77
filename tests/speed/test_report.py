"""Tables and pictures from made-up records."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from made_up_speed import make, timing

from lra_bench.errors import UserError
from lra_bench.speed import record as records
from lra_bench.speed.record import SpeedRecord
from lra_bench.speed.report import Report, publish

LENGTHS = (1024, 2048, 4096)


def published(
    tmp_path: Path, *made: SpeedRecord, draws: bool = False, out: str = "out"
) -> tuple[Report, list[str]]:
    """Write records to a results folder and make its tables without pictures."""
    for record in made:
        records.write(record, tmp_path)
    said: list[str] = []
    report = publish(tmp_path, out=tmp_path / out, draws=lambda: draws, say=said.append)
    return report, said


def line_of(text: str, heading: str, model: str) -> list[str]:
    """Return the cells of a model in the table below a heading."""
    section = text.split(f"### {heading}\n")[1].split("###")[0]
    (line,) = (line for line in section.splitlines() if line.startswith(f"| {model} "))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def growing(model: str, exponent: float) -> list[SpeedRecord]:
    return [
        make(model, length, seconds=[(length / 1024) ** exponent] * 3, baseline=[1.0, 2.0, 4.0])
        for length in LENGTHS
    ]


def test_a_table_against_the_baseline(tmp_path: Path) -> None:
    report, _ = published(tmp_path, *growing("local", 1), *growing("luna", 2))
    assert line_of(report.text, "Training: against the transformer", "local") == [
        "2.00 (1.00-4.00)",
        "1.00 (0.50-2.00)",
        "0.50 (0.25-1.00)",
        "0.25",
        "0.25",
        "0.25",
    ]
    # Inference takes half the time of both.
    inference = line_of(report.text, "Inference: against the transformer", "luna")
    assert inference[2] == "0.12 (0.06-0.25)"
    # The fastest at the longest length comes first.
    assert report.text.index("| local ") < report.text.index("| luna ")
    assert "2 layers, width 64, 2 heads, feed-forward 128" in report.text
    assert "Measured on: a machine, 2 threads, PyTorch 2.13.0." in report.text


def test_rates_and_memory(tmp_path: Path) -> None:
    report, _ = published(tmp_path, make(seconds=(0.1, 0.2, 0.4), memory=12_345_678))
    assert line_of(report.text, "Training: steps a second", "local") == ["5.00 (2.50-10.0)"]
    # 1,024 tokens of four examples in 0.2 s.
    assert line_of(report.text, "Training: tokens a second", "local") == ["20,480"]
    assert line_of(report.text, "Inference: tokens a second", "local") == ["40,960"]
    assert line_of(report.text, "Peak memory [MB]", "local") == ["12", "12"]
    # One length tells nothing of growth.
    assert "How the cost grows" not in report.text


def test_two_inputs_are_twice_the_tokens(tmp_path: Path) -> None:
    made = make()
    config = {**made.config, "task": {**made.config["task"], "num_inputs": 2}}
    report, _ = published(tmp_path, make(config=config, seconds=(0.2, 0.2, 0.2)))
    assert line_of(report.text, "Training: tokens a second", "local") == ["40,960"]


def test_exponents_and_the_lengths_they_are_fitted_to(tmp_path: Path) -> None:
    report, _ = published(
        tmp_path, *growing("local", 1), *growing("luna", 2)[:2], make("luna", 8192, status="failed")
    )
    assert line_of(report.text, "How the cost grows", "local") == [
        "1.00",
        "1.00",
        "0.00",
        "0.00",
        "1,024, 2,048, 4,096",
    ]
    assert line_of(report.text, "How the cost grows", "luna")[::4] == ["2.00", "1,024, 2,048"]


def test_a_cell_without_a_result_says_why(tmp_path: Path) -> None:
    report, _ = published(
        tmp_path,
        make(),
        make("luna", status="out_of_memory", error="asked for | 9 TB\nand more"),
        make("mamba", status="out_of_time", error="more than the 60 s allowed"),
    )
    for heading in ("Training: against the transformer", "Inference: steps a second"):
        assert line_of(report.text, heading, "luna")[0] == "out of memory"
        assert line_of(report.text, heading, "mamba")[0] == "out of time"
    assert "- luna at 1,024: out of memory: asked for / 9 TB and more\n" in report.text
    assert "- mamba at 1,024: out of time: more than the 60 s allowed\n" in report.text


def test_a_busy_machine_is_marked_where_it_matters(tmp_path: Path) -> None:
    report, _ = published(tmp_path, make(other_cores=1.5), make("luna", baseline=None))
    speed, memory = line_of(report.text, "Training: against the transformer", "local")
    assert (speed, memory) == ("2.00 (2.00-2.00)*", "0.25")
    assert line_of(report.text, "Training: against the transformer", "luna") == ["", ""]
    assert "*: others used more than a tenth of the machine" in report.text


def test_energy_is_shown_where_it_was_told(tmp_path: Path) -> None:
    report, _ = published(tmp_path, make())
    assert "Energy" not in report.text
    told = timing(0.1, 0.2, 0.3, joules=[5.0, 7.0, 9.0])
    report, _ = published(tmp_path, make("luna", train=told))
    assert line_of(report.text, "Energy of a training step [J]", "luna") == ["7"]
    assert line_of(report.text, "Energy of a training step [J]", "local") == [""]


def test_what_differs_stands_in_tables_of_its_own(tmp_path: Path) -> None:
    report, _ = published(
        tmp_path,
        make(),
        make(batch_size=8),
        make(device="another machine"),
        make(changes={"trunk.width": 32}),
        make("local", changes={"model.block_size": 3}),
    )
    assert report.text.count("\n## ") + report.text.startswith("## ") == 4
    assert "## Setting cpu(width=32), task text, batch 4\n" in report.text.replace("trunk.", "")
    assert line_of(report.text, "Training: tokens a second", "local(block_size=3)")


def test_published_ratios_stand_beside_ours_and_are_never_mixed(tmp_path: Path) -> None:
    report, _ = published(tmp_path, make("local", 4096), make("mamba", 4096), make("local", 512))
    section = report.text.split("### Beside published ratios\n")[1].split("\n\nNumbers")[0]
    (line,) = (line for line in section.splitlines() if line.startswith("| local"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    # Length, here (speed, memory), and those of arXiv 2011.04006, which has 4,000 tokens.
    assert cells[1:6] == ["4,096", "2.00", "0.25", "5.29", "0.14"]
    assert "- [1] arXiv 2011.04006, table 2: batch 32, 4x4 TPU v3" in section
    assert "mamba" not in section
    other, _ = published(tmp_path / "other", make("local", 4096, task="image"))
    assert "Beside published" not in other.text


def test_a_terminal_sees_what_was_asked_for(tmp_path: Path) -> None:
    asked = [*growing("local", 1), make("luna", status="failed")]
    for record in (*asked, make(batch_size=8)):
        records.write(record, tmp_path)
    identities = [record.cell_id for record in asked]
    report = publish(tmp_path, cell_ids=identities, draws=lambda: False, say=lambda _: None)
    assert "batch 4" in report.brief
    assert "batch 8" not in report.brief
    heading = "Training: against the transformer"
    assert line_of(report.brief, heading, "local") == line_of(report.text, heading, "local")
    assert "- luna at 1,024: failed: the machine said no" in report.brief
    assert "Peak memory" not in report.brief
    assert "batch 8" in publish(tmp_path, draws=lambda: False, say=lambda _: None).brief


def test_csv_has_a_row_a_cell_in_full_precision(tmp_path: Path) -> None:
    made = make(seconds=(0.1, 1 / 3, 0.7), baseline=(0.2, 0.5, 0.9), other_cores=0.125)
    published(tmp_path, made, make("luna", status="failed", error="a, b"))
    rows = list(csv.DictReader((tmp_path / "out/speed.csv").read_text().splitlines()))
    row = next(row for row in rows if row["model"] == "local")
    assert float(row["train_seconds"]) == 1 / 3
    assert float(row["train_steps_per_second"]) == pytest.approx(3)
    assert float(row["train_speed_ratio"]) == pytest.approx(1.5)
    assert float(row["train_cpu_ratio"]) == pytest.approx(1.5)
    assert (row["other_cores"], row["is_busy"], row["status"]) == ("0.125", "False", "completed")
    (failed,) = (row for row in rows if row["model"] == "luna")
    assert (failed["status"], failed["error"], failed["train_seconds"]) == ("failed", "a, b", "")


def test_tables_are_the_same_bytes_again(tmp_path: Path) -> None:
    made = [*growing("luna", 2), *growing("local", 1)]
    published(tmp_path, *made, draws=True)
    published(tmp_path, *made[::-1], draws=True, out="again")
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(path.suffix for path in files) == [".csv", ".md", ".svg"]
    for path in files:
        again = tmp_path / "again" / path.relative_to(tmp_path / "out")
        assert path.read_bytes() == again.read_bytes()


def test_a_picture_shows_every_model_that_has_a_result(tmp_path: Path) -> None:
    made = [*growing("luna", 2), *growing("transformer", 1), make("mamba", status="failed")]
    report, said = published(tmp_path, *made, draws=True)
    (path,) = (path for path in report.paths if path.suffix == ".svg")
    text = path.read_text()
    assert f"]({path.relative_to(tmp_path / 'out')})" in report.text
    assert ">luna<" in text
    assert ">transformer<" in text
    assert "mamba" not in text
    assert ">4,096<" in text
    assert said == []


def test_without_a_library_for_pictures_there_are_tables(tmp_path: Path) -> None:
    report, said = published(tmp_path, make())
    assert sorted(path.name for path in report.paths) == ["speed.csv", "speed.md"]
    assert "![" not in report.text
    assert said == ["no pictures: they need matplotlib (pip install 'lra_bench[figures]')"]


def test_of_two_records_of_one_place_the_newer_counts(tmp_path: Path) -> None:
    older: dict[str, Any] = {"started_at": "2026-01-01T00:00:00+00:00", "config": {"task": {}}}
    newer = make(started_at="2026-02-01T00:00:00+00:00", seconds=(0.5, 0.5, 0.5))
    report, said = published(tmp_path, newer, make(**older))
    assert line_of(report.text, "Training: steps a second", "local") == ["2.00 (2.00-2.00)"]
    assert "left out 1 record: newer ones have the same names and place" in said


def test_no_records_make_tables_too(tmp_path: Path) -> None:
    report, said = published(tmp_path)
    assert "Nothing measured yet." in report.text
    assert said == []


def test_files_that_are_no_records_are_named(tmp_path: Path) -> None:
    (tmp_path / "speed").mkdir()
    (tmp_path / "speed/x.json").write_text("{}")
    _, said = published(tmp_path, make())
    assert any(line.startswith(f"skipped {tmp_path / 'speed/x.json'}: it is not") for line in said)


def test_tables_that_cannot_be_written_are_the_users_matter(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the tables to"):
        published(tmp_path, make(), out="file")


def test_torch_is_not_needed() -> None:
    script = "import sys, lra_bench.speed.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_shipped_tables_are_those_of_the_shipped_records(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[2] / "results"
    tables = ("speed.md", "speed.csv")
    if not (shipped / "speed").is_dir():
        assert not [name for name in tables if (shipped / name).exists()]
        return
    publish(shipped, out=tmp_path, say=pytest.fail)
    for name in tables:
        assert (tmp_path / name).read_text() == (shipped / name).read_text()
