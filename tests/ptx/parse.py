"""Reads PTX text: functions, registers, labels and statements."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .errors import PtxError
from .types import U, constant, width

LOCAL_WINDOW = 1 << 44
SHARED_WINDOW = 1 << 45
GLOBALS_BASE = 1 << 46
"""Where generic addresses see local and shared memory, and where variables of a module lie."""


@dataclass(frozen=True)
class Register:
    slot: int
    width: int
    negated: bool = False


@dataclass(frozen=True)
class Special:
    name: str


@dataclass(frozen=True)
class Literal:
    text: str


@dataclass(frozen=True)
class Vector:
    items: tuple


@dataclass(frozen=True)
class Address:
    base: Any
    offset: int


@dataclass
class Instruction:
    """One statement; `run` is made when it is first executed."""

    guard: Register | None
    op: tuple[str, ...]
    operands: tuple
    text: str
    run: Any = None
    is_control: bool = False

    @property
    def type(self) -> str:
        return self.op[-1]


SPACES = ("global", "shared", "local", "const", "param")


def space_of(step: Instruction) -> str | None:
    """The space that an instruction names; None if its addresses are generic."""
    for part in step.op:
        name = part.split("::")[0]
        if name in SPACES:
            return "global" if name == "const" else name
    return None


@dataclass
class Function:
    """An entry point: `widths` of its registers by slot; sizes and addresses of its memory."""

    name: str
    params: list[tuple[str, str, int]] = field(default_factory=list)
    code: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    widths: list[int] = field(default_factory=list)
    symbols: dict[str, int] = field(default_factory=dict)
    shared_size: int = 0
    local_size: int = 0


@dataclass
class Source:
    """A whole file. `variables`: bytes of `.global` and `.const` variables by address."""

    functions: dict[str, Function] = field(default_factory=dict)
    variables: dict[int, np.ndarray] = field(default_factory=dict)


_VARIABLE = re.compile(
    r"\.(global|const)\s+(?:\.align\s+\d+\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d+)\])?"
    r"\s*(?:=\s*(\{[^}]*\}|[^;]+))?;"
)
_SHARED = re.compile(r"\.shared\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d+)\])?\s*;")
_EXTERN = re.compile(r"\.extern\s+\.shared[^;\[]*?([\w$]+)\s*\[\s*\]\s*;")
_ENTRY = re.compile(r"\.entry\s+([\w$]+)\s*\((.*?)\)(.*?)\{", re.S)
_MEMORY = re.compile(r"\.(shared|local)\s+(?:\.align\s+\d+\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d+)\])?")
_REGISTERS = re.compile(r"\.reg\s+\.(\w+)\s+(.*)")


def parse(text: str) -> Source:
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    text = re.sub(r"//[^\n]*", "", text)
    text = re.sub(
        r"^\s*\.(version|target|address_size|file|loc|pragma)\b[^\n]*$", "", text, flags=re.M
    )
    text = re.sub(r"\.section\s+[^{]*\{.*?\n\s*\}", "", text, flags=re.S)
    source = Source()
    outside = text[: m.start()] if (m := _ENTRY.search(text)) else text
    symbols = _variables(source, text)
    static = [(n, int(count or 1) * width(t) // 8) for _, t, n, count in _SHARED.findall(outside)]
    extern = _EXTERN.findall(text)
    for match in _ENTRY.finditer(text):
        function = Function(match.group(1), _params(match.group(2)), symbols=dict(symbols))
        _Body(function).read(_inside(text, match.end()), static)
        for name in extern:
            function.symbols[name] = function.shared_size
        source.functions[function.name] = function
    return source


def _variables(source: Source, text: str) -> dict[str, int]:
    symbols, address = {}, GLOBALS_BASE
    for _, t, name, count, init in _VARIABLE.findall(text):
        data = np.zeros(int(count or 1) * max(width(t) // 8, 1), np.uint8)
        if init:
            values = [constant(x, f"b{width(t)}") for x in init.strip("{}").split(",") if x.strip()]
            raw = np.array(values, U[width(t)]).view(np.uint8)
            data[: len(raw)] = raw
        symbols[name] = address
        source.variables[address] = data
        address += -(-len(data) // 256) * 256 + 4096
    return symbols


def _params(text: str) -> list[tuple[str, str, int]]:
    """Name, type, and size in elements (0 if no array) of each parameter."""
    params = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        t = re.search(r"\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)", part).group(1)
        name, size = re.findall(r"([\w$]+)(?:\[(\d+)\])?\s*$", part)[0]
        params.append((name, t, int(size or 0)))
    return params


def _inside(text: str, start: int) -> str:
    depth = 1
    for match in re.compile(r"[{}]").finditer(text, start):
        depth += 1 if match.group() == "{" else -1
        if not depth:
            return text[start : match.start()]
    raise PtxError("a function without an end")


def _statements(body: str) -> Iterator[str]:
    """Statements in order, with `{` and `}` of scopes among them; vectors keep their braces."""
    current, i = "", 0
    while i < len(body):
        c = body[i]
        if c == "{":
            end = body.index("}", i)
            inside = body[i + 1 : end]
            if ";" not in inside and "{" not in inside and inside.strip():
                current += "<" + inside + ">"
                i = end + 1
                continue
        if c in "{};":
            yield current
            current = ""
            if c != ";":
                yield c
        else:
            current += c
        i += 1
    yield current


def split(text: str) -> list[str]:
    """Operands: separated by commas outside of brackets."""
    return [p.strip() for p in re.split(r",(?![^<\[]*[>\]])", text) if p.strip()]


class _Body:
    """Reads the statements of one function. A scope in braces has registers of its own."""

    def __init__(self, function: Function) -> None:
        self.f = function
        self.scopes: list[dict[str, Register]] = [{}]

    def read(self, body: str, static: list[tuple[str, int]]) -> None:
        for name, size in static:
            self._place_shared(name, size)
        for statement in _statements(body):
            text = " ".join(statement.split())
            while match := re.match(r"([\w$]+):(?!:)\s*", text):
                self.f.labels[match.group(1)] = len(self.f.code)
                text = text[match.end() :]
            if text == "{":
                self.scopes.append({})
            elif text == "}":
                self.scopes.pop()
            elif text.startswith(".reg"):
                self._declare(text)
            elif match := _MEMORY.match(text):
                space, t, name, count = match.groups()
                size = int(count or 1) * max(width(t) // 8, 1)
                if space == "shared":
                    self._place_shared(name, size)
                else:
                    self.f.symbols[name] = LOCAL_WINDOW + self.f.local_size
                    self.f.local_size += -(-size // 16) * 16
            elif text and not text.startswith("."):
                self.f.code.append(self._instruction(text))
        # Running off the end is a return.
        self.f.code.append(Instruction(None, ("ret",), (), "end of function"))

    def _place_shared(self, name: str, size: int) -> None:
        self.f.symbols[name] = self.f.shared_size
        self.f.shared_size += -(-size // 128) * 128

    def _declare(self, text: str) -> None:
        t, names = _REGISTERS.match(text).groups()
        for name in names.split(","):
            stem, _, count = name.strip().replace("<", " ").replace(">", "").partition(" ")
            every = [f"{stem}{i}" for i in range(int(count))] if count else [stem]
            for one in every:
                self.scopes[-1][one] = Register(len(self.f.widths), width(t))
                self.f.widths.append(width(t))

    def _instruction(self, text: str) -> Instruction:
        guard, rest = None, text
        if text.startswith("@"):
            name, _, rest = text.partition(" ")
            guard = self._operand(name[1:])
        op, _, operands = rest.strip().partition(" ")
        parts = tuple(self._operand(p) for p in split(operands))
        written = text.replace("<", "{").replace(">", "}")
        return Instruction(guard, tuple(op.split(".")), parts, written)

    def _operand(self, text: str) -> Any:
        text = text.strip()
        if text.startswith("["):
            base, offset = re.fullmatch(r"\[\s*([%\w$.]+)\s*(?:\+\s*(-?\w+)\s*)?\]", text).groups()
            return Address(self._operand(base), int(offset or "0", 0))
        if text.startswith("<"):
            return Vector(tuple(self._operand(p) for p in text.strip("<>").split(",")))
        if "|" in text:
            return Vector(tuple(self._operand(p) for p in text.split("|")))
        negated = text[0] in "!-"
        name = text[1:].strip() if negated else text
        for scope in reversed(self.scopes):
            if name in scope:
                found = scope[name]
                return Register(found.slot, found.width, True) if negated else found
        if text.startswith("%"):
            return Special(text)
        return Literal(text)
