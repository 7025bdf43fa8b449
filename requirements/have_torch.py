"""Exit with 0 when a PyTorch of at least 2.9 is already importable, else with 1."""

import sys

try:
    import torch
except ImportError:
    sys.exit(1)
version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
if version < (2, 9):
    print(f"The PyTorch on this machine is {torch.__version__}; 2.9 or later is wanted.")
    sys.exit(1)
print(f"Using PyTorch {torch.__version__} of this machine.")
