"""Benchmarks; run from the repository root, for example `python -m bench.ops`."""

import os

# Each library brings OpenMP threads of its own, which wait in a loop for their next piece of work
# and would keep the cores busy while another library is timed. Read when the first is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
