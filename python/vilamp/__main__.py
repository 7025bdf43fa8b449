"""`vilamp` and `python -m vilamp`."""

import os
import sys

# Before anything loads OpenMP. Threads that wait for the model's next product would spin, on the
# cores that decode the next frames; asleep they leave them to the decoder.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from vilamp.cli.app import run


def main() -> None:
    """Run the command line on sys.argv and exit with its status."""
    # An answer or a file name may hold letters that the terminal's encoding has not.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
