"""Benchmarks: never tests, never timed in CI; each prints a table and writes a JSON of it."""
