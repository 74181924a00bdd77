"""A benchmark harness for long-sequence encoders on the tasks of Long Range Arena."""

__version__ = "0.1.0"
