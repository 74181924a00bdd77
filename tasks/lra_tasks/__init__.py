"""The tasks of Long Range Arena, one module each."""
