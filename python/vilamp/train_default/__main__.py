"""`python -m vilamp.train_default`: train the embedded default model from nothing; see `stages`."""

import argparse
from pathlib import Path

from .sizes import MODEL_FOLDER, RUNS
from .stages import STAGES, run_all, run_stage


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m vilamp.train_default", description=__doc__)
    parser.add_argument("--folder", type=Path, default=RUNS, help="checkpoints and results")
    parser.add_argument("--out", type=Path, default=MODEL_FOLDER, help="model folder to write")
    parser.add_argument("--stage", choices=STAGES, help="run this stage alone")
    parser.add_argument("--no-export", action="store_true", help="leave the model folder alone")
    options = parser.parse_args()
    if options.stage:
        run_stage(options.stage, options.folder)
        return
    run_all(options.folder)
    if not options.no_export:
        from .export import export

        export(options.folder, options.out)
        print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
