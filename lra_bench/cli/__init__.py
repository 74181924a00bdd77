"""The command line: one file a verb, with its parser, its help and what it does."""

from lra_bench.cli.main import main

__all__ = ["main"]
