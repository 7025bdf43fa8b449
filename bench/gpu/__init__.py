"""The parts of `bench/gpu_check.py`, each a section of its report."""
