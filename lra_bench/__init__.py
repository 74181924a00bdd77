"""A benchmark harness for long-sequence encoders on the tasks of Long Range Arena."""

from lra_bench.hardware import wait_passively

__version__ = "0.1.0"

# Whatever is imported first, this comes before torch, in every process that runs something.
wait_passively()
