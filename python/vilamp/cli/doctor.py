"""`vilamp doctor`: what is there, what is missing, and why."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vilamp.cli import options
from vilamp.cli.output import print_json
from vilamp.sizes import size_text


def doctor(json: options.Json = False, debug: options.Debug = False) -> None:
    """Show versions, devices and backends, and say why something is missing."""
    from vilamp.doctor import examine

    findings = examine()
    if json:
        print_json(findings)
        return
    console = Console(highlight=False)
    for title, rows in _sections(findings).items():
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, min_width=14)
        table.add_column(overflow="fold")
        for name, value in rows.items():
            table.add_row(f"  {escape(name)}", value)
        console.print(f"[bold]{title}[/bold]")
        console.print(table)
        console.print()


def _sections(findings: dict) -> dict[str, dict[str, str]]:
    """Title -> name -> marked-up value, in the order in which they are shown."""
    cpu, model, python = findings["cpu"], findings["default_model"], findings["python"]
    return {
        "Versions": {
            "python": f"{python['version']}  [dim]{escape(python['executable'])}[/dim]",
            **{name: _present(version) for name, version in findings["packages"].items()},
            "system": escape(findings["system"]),
        },
        "Video": _video(findings["ffmpeg"]),
        "Devices": {
            **_devices(findings["devices"]),
            "processor": escape(f"{cpu['name']}, {cpu['cores']} cores for this process"),
            "instructions": escape(" ".join(cpu["features"])) or _missing("none known"),
        },
        "Backends of vilamp_kernels": _backends(findings["backends"]),
        "What runs an op": _owners(findings["owners"]),
        "Compilers": {name: _present(line) for name, line in findings["compilers"].items()},
        "Embedded model": _broken(model)
        or {
            "default": f"[green]present[/green], {size_text(model['bytes'])}"
            if model["present"]
            else _missing("missing or incomplete"),
            "folder": escape(model["path"]),
        },
    }


def _video(found: dict) -> dict[str, str]:
    if "error" in found:
        return _broken(found)
    libraries = {name: escape(version) for name, version in found["libraries"].items()}
    return {**libraries, "decoders": escape(" ".join(found["decoders"]))}


def _devices(found: list | dict) -> dict[str, str]:
    if isinstance(found, dict):
        return _broken(found)
    shown = {}
    for device in found:
        remarks = [device["name"], size_text(device["memory"]) if device["memory"] else ""]
        shown[device["device"]] = ", ".join(
            ["[green]ready[/green]", *map(escape, filter(None, remarks))]
        )
    if not any(name.startswith("cuda") for name in shown):
        shown["cuda"] = _missing("no CUDA device, or PyTorch without CUDA")
    return shown


def _backends(found: dict) -> dict[str, str]:
    if "error" in found:
        return _broken(found)
    return {
        name: (
            f"[green]available[/green], {escape(backend['reason'])}\n"
            f"[dim]{escape(', '.join(backend['ops']))}[/dim]"
            if backend["available"]
            else _missing(backend["reason"])
        )
        for name, backend in found.items()
    }


def _owners(found: dict) -> dict[str, str]:
    """Device -> its backends, each with its ops; nothing where those cannot be had."""
    if "error" in found:
        return {}
    shown = {}
    for device, owners in found.items():
        by_backend: dict[str, list[str]] = {}
        for op, backend in owners.items():
            by_backend.setdefault(backend, []).append(op)
        shown[device] = "\n".join(
            f"{backend}: [dim]{escape(', '.join(ops))}[/dim]" for backend, ops in by_backend.items()
        )
    return shown


def _broken(found: dict) -> dict[str, str]:
    return {"error": f"[red]{escape(found['error'])}[/red]"} if "error" in found else {}


def _present(value: str | None) -> str:
    return escape(value) if value else _missing("not installed")


def _missing(reason: str) -> str:
    return f"[yellow]-[/yellow] {escape(reason)}"
