"""How much memory a question needs, said beforehand, and kept to.

`estimate` predicts the peak of any model and video by arithmetic, `plan` chooses batches so that it
stays within a budget or within what a GPU has free, `device` asks the device and holds it to the
budget, `placing` moves the vision towers off it while they are not needed, `keeper` does all of it
for a session.
"""

from .estimate import Work, peak, peaks
from .keeper import MemoryKeeper
from .plan import Choices, Plan
from .sizes import Sizes

__all__ = [
    "Choices",
    "MemoryKeeper",
    "Plan",
    "Sizes",
    "Work",
    "peak",
    "peaks",
]
