"""All numeric tests under other libraries' orders of summation: see `docs/numerics.md`."""
