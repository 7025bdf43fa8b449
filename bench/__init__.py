"""Benchmarks; run from the repository root, for example `python -m bench.ops`."""
