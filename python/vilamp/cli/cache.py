"""`vilamp cache`: what is kept on disk for later questions, and how to get rid of it."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from vilamp.cli import options
from vilamp.cli.output import print_json
from vilamp.clock import clock
from vilamp.sizes import size_text


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete all of it.")] = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Show what is kept on disk for later questions about the same videos, or clear it."""
    from vilamp.cache import Cache

    kept = Cache()
    entries = kept.entries()
    freed = kept.clear() if clear else None
    if json:
        files = [
            {"path": str(e.path), "kind": e.kind, "bytes": e.bytes, "used": e.used} for e in entries
        ]
        print_json(
            {
                "folder": str(kept.folder),
                "limit": kept.limit,
                "files": [] if clear else files,
                "freed": freed,
            }
        )
        return
    if clear:
        print(f"{size_text(freed)} freed in {kept.folder}")
        return
    total = sum(entry.bytes for entry in entries)
    print(f"{kept.folder}: {size_text(total)} of at most {size_text(kept.limit)}")
    if entries:
        table = Table(box=None, pad_edge=False)
        table.add_column("kind")
        table.add_column("size", justify="right")
        table.add_column("last used", justify="right")
        table.add_column("name", style="dim")
        now = time.time()
        for entry in entries:
            age = f"{clock(max(0.0, now - entry.used))} ago"
            table.add_row(entry.kind, size_text(entry.bytes), age, entry.path.stem)
        Console(highlight=False).print(table)
