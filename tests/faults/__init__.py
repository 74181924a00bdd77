"""Faults on purpose: kills, full and read-only disks, torn files, wrong clocks, two at once."""
