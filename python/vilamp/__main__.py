"""`vilamp` and `python -m vilamp`."""

import sys

from vilamp.cli.app import run


def main() -> None:
    """Run the command line on sys.argv and exit with its status."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
