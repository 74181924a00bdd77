"""Tests of the models, a file each."""
