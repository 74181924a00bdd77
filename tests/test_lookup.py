"""A record by its file, its id, or how that begins."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from made_up_records import make

from lra_bench import record as records
from lra_bench.errors import UserError
from lra_bench.lookup import find, run_ids

OLD = Path(__file__).parent / "fixtures/record_v1.json"


def test_a_file_an_id_and_how_it_begins_mean_the_same(tmp_path: Path) -> None:
    record = make()
    path = records.write(record, tmp_path)
    records.write(make(1, model="local"), tmp_path)
    for word in (str(path), record.run_id, record.run_id[:8]):
        assert find(word, [tmp_path / "nowhere", tmp_path]) == (record, path)
    assert run_ids([tmp_path]) == sorted([record.run_id, make(1, model="local").run_id])


def test_the_same_run_in_two_folders_is_one(tmp_path: Path) -> None:
    paths = [records.write(make(), tmp_path / name) for name in ("one", "two")]
    assert find(make().run_id, [tmp_path / "one", tmp_path / "two"]) == (make(), paths[0])


def test_a_record_of_an_older_version_is_found_by_the_id_it_has_now(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    path = tmp_path / "runs/e364c3b54b117e72.json"
    path.write_bytes(OLD.read_bytes())
    record = records.read(OLD)
    assert find(record.run_id[:9], [tmp_path]) == (record, path)


def test_what_cannot_be_found_is_one_clear_line(tmp_path: Path) -> None:
    for seed in range(20):
        records.write(make(seed), tmp_path)
    first, number = Counter(name[0] for name in run_ids([tmp_path])).most_common(1)[0]
    assert number > 1
    (tmp_path / "broken.json").write_text("{")
    for word, why in {
        first: f"{number} runs begin with '{first}'",
        "zzz": "no run whose id begins so below",
        str(tmp_path): "is a folder",
        str(tmp_path / "broken.json"): "it is not JSON",
    }.items():
        with pytest.raises(UserError, match=why) as caught:
            find(word, [tmp_path])
        assert "\n" not in str(caught.value)
