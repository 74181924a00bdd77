from __future__ import annotations

import math
import multiprocessing
import os
import subprocess
import sys
import textwrap
from itertools import count, islice
from pathlib import Path

import pytest

from lra_bench.errors import UserError
from lra_tasks._parallel import in_order


@pytest.mark.parametrize("num_workers", [1, 2])
def test_results_come_in_order(num_workers: int) -> None:
    # Of arguments that go on for ever.
    results = in_order(math.factorial, count(), num_workers=num_workers)
    assert list(islice(results, 30)) == [math.factorial(number) for number in range(30)]
    results.close()
    assert not multiprocessing.active_children()


def test_a_process_that_is_ended(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="ended from outside"):
        list(in_order(os._exit, [1, 1], num_workers=2))
    capfd.readouterr()


# As people write them, and as a notebook is: there is no `if __name__ == "__main__"`.
SCRIPT = """
    import multiprocessing
    import sys
    from pathlib import Path
    from lra_tasks.listops import ListOps

    print("begun")
    before = __spec__, globals().get("__file__")
    folder = Path(sys.argv[1])
    most = 0

    def tell(progress):
        global most
        most = max(most, len(multiprocessing.active_children()))

    task = ListOps(
        data_dir=folder,
        cache_dir=folder / "cache",
        num_train=5000,
        num_validation=1,
        num_test=1,
        min_length=5,
        max_length=60,
        max_depth=5,
        max_args=4,
        num_workers=2,
    )
    task.prepare(tell)
    assert before == (__spec__, globals().get("__file__"))
    print(most, len(task.examples("train")))
"""


@pytest.mark.parametrize(
    "way",
    [
        "a file",
        "standard input",
        pytest.param("a module", marks=pytest.mark.slow),
        pytest.param("-c", marks=pytest.mark.slow),
    ],
)
def test_a_script_without_a_guard(tmp_path: Path, way: str) -> None:
    text = textwrap.dedent(SCRIPT)
    (tmp_path / "my_script.py").write_text(text)
    called = {
        "a file": [str(tmp_path / "my_script.py")],
        "a module": ["-m", "my_script"],
        "standard input": ["-"],
        "-c": ["-c", text],
    }[way]
    done = subprocess.run(
        [sys.executable, *called, str(tmp_path)],
        input=text if way == "standard input" else "",
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Begun once: the processes do not run the script again.
    assert done.stdout.splitlines() == ["begun", "2 5000"]
    assert done.stderr == ""
