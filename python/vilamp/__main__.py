"""`vilamp` and `python -m vilamp`."""

import os
import sys

# Before anything loads OpenMP. Threads that wait for the model's next product would spin, on the
# cores that decode the next frames; asleep they leave them to the decoder.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def main() -> None:
    """Run the command line on sys.argv and exit with its status."""
    from vilamp.cli.streams import prepare

    prepare()
    # Imported only now: a file that an import opens would take the place of a closed stream.
    from vilamp.cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
