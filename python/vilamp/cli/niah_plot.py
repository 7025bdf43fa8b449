"""`vilamp niah plot`: heat maps and tables of the answers in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vilamp.cli import options
from vilamp.cli.output import OutputFile, print_json, terminal_text
from vilamp.errors import InputError

LONGEST_NAME = 40
"""Characters of a kind in the name of a file; file systems take 255 bytes."""


def plot(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Of the cases and their answers.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FOLDER", help="Where pictures and tables go. [default: FOLDER]"
        ),
    ] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Draw heat maps side by side, write tables with 95% intervals, print them."""
    from vilamp.niah.tables import ALL, as_csv, as_markdown, read_results
    from vilamp.profile.plot import require_matplotlib

    measured = read_results(folder / "results")
    require_matplotlib("niah plot")
    out = out or folder
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out: cannot make {out}: {error.strerror or error}") from error
    from vilamp.niah.plot import heat_maps

    kinds = list(dict.fromkeys(kind for model in measured for kind in model.values("kind")))
    contents = {
        "accuracy.csv": as_csv(measured).encode(),
        "tables.md": as_markdown(measured).encode(),
        "heat-map.png": heat_maps(measured),
    }
    # A picture per kind too, where there are few.
    for kind in kinds if 1 < len(kinds) <= 6 else []:
        name = "".join(c if c.isalnum() else "-" for c in kind.lower())[:LONGEST_NAME]
        # Kinds may differ in other characters only.
        while f"heat-map-{name}.png" in contents:
            name += "-"
        contents[f"heat-map-{name}.png"] = heat_maps(measured, kind, f"{kind} questions")
    written = []
    for name, content in contents.items():
        OutputFile(out / name, "--out").write(content)
        written.append(str(out / name))
    if json:
        shares = {
            model.name: {
                kind: {
                    f"{n}": _share(model.share(frames=n, kind=kind)) for n in model.values("frames")
                }
                for kind in (*kinds, ALL)
            }
            for model in measured
        }
        print_json({"models": shares, "written": written})
        return
    print(terminal_text(as_markdown(measured)), end="")


def _share(share: object) -> dict[str, object]:
    return {
        "right": share.right,
        "count": share.count,
        "percent": share.percent,
        "interval": list(share.interval),
    }
