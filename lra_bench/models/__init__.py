"""Sequence encoders, one module each."""
