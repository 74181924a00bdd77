"""The way in: verbs, exit codes, and the one line that a mistake is worth.

Quick to start: nothing that takes time to import is imported before a verb needs it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence

from lra_bench import __version__
from lra_bench.cli import compare, completion, data, leaderboard, ls, run, show, speed, status
from lra_bench.cli.parsing import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_MISTAKE,
    EXIT_PREEMPTED,
    Parser,
    parse,
    silence,
)
from lra_bench.errors import UserError
from lra_bench.places import speaks

# Of several processes the first speaks. Whoever has started them ends it once another has ended.
_HEARING_SECONDS = 1.0

_DESCRIPTION = """\
lra-bench: a benchmark for encoders of long sequences

  lra-bench run task=listops model=ernie_sparse          one benchmark run
  lra-bench run -m task=listops,text 'model=glob(*)' seed=0,1,2     a sweep
  lra-bench leaderboard                                  the comparison tables
  lra-bench speed model=local,ernie_sparse               what models cost
"""
_EPILOG = """\
`lra-bench VERB --help` tells more. Exit codes: 0 done, 1 the run failed, 2 a mistake in what was
asked for, 130 interrupted (ask again to go on), 143 pre-empted after saving.
"""
_VERBS = (
    run.add_to,
    status.add_to,
    data.add_to,
    ls.add_to,
    leaderboard.add_to,
    show.add_to,
    compare.add_to,
    speed.add_to,
    completion.add_to,
)


def make_parser() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(prog="lra-bench", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_verbs(*_VERBS)
    return parser


def main(words: Sequence[str] | None = None, *, parser: Parser | None = None) -> int:
    """Run a verb and return the exit code.

    Args:
        words: The command line without the program's name; None for that of the process.
        parser: Of all verbs there are; None for those of the harness.
    """
    parser = parser or make_parser()
    if completion.ASKED in os.environ:
        completion.answer(parser)
    try:
        code = _call(parser, sys.argv[1:] if words is None else words)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of stdout has gone, as `head` does; what it did not read is not missed.
        silence(sys.stdout)
        return 0
    except KeyboardInterrupt as error:
        number = getattr(error, "signal_number", signal.SIGINT)
        # A run goes on where it was; data that were not ready are begun again.
        _say("\ninterrupted; give the same line again to go on")
        return EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_PREEMPTED
    except OSError as error:
        # An unreadable file, a full disk: the system's own words name the file.
        _say(f"lra-bench: {error}")
        return EXIT_FAILED
    except UserError as error:
        _say(f"lra-bench: {error}")
        return EXIT_MISTAKE


def _say(text: str) -> None:
    if speaks():
        print(text, file=sys.stderr)
    else:
        time.sleep(_HEARING_SECONDS)


def _call(parser: Parser, words: Sequence[str]) -> int:
    try:
        parsed = parse(parser, ["--help"] if not words or words[0] == "help" else words)
    except SystemExit:
        # argparse ends the process once it has printed help or the version.
        return 0
    code: int = parsed.function(parsed)
    return code
