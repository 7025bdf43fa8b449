"""The examples of the documentation run."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def examples(name):
    """The Python blocks of a Markdown file, each with the number of its first line."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, found.start(1)) + 1, found.group(1))
        for found in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    ]


def run(name, line, code):
    # Blank lines in front: a traceback names the line of the document.
    exec(compile("\n" * (line - 1) + code, str(ROOT / name), "exec"), {})


@pytest.mark.parametrize(
    "line,code", [pytest.param(*e, id=f"{e[0]}") for e in examples("docs/ops.md")]
)
def test_examples_of_the_ops(line, code):
    run("docs/ops.md", line, code)


def test_every_op_has_an_example():
    import vilamp_kernels as vk

    text = "".join(code for _, code in examples("docs/ops.md"))
    ops = {name for name in vk.__all__ if name[0].islower()} - {"available_backends", "use_backend"}
    assert all(f"vk.{op}(" in text for op in ops | {"StreamingMerger"})


def test_example_of_the_readme():
    # The other block of the README asks a question of a video that `make demo` draws.
    ((line, code),) = [e for e in examples("README.md") if "import vilamp_kernels" in e[1]]
    assert "729, 1152" in code
    # As many patches as a picture has take a gigabyte.
    run("README.md", line, code.replace("729, 1152", "9, 1152"))


def test_links_lead_somewhere():
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")):
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (path.parent / link).exists(), f"{path.name}: {link}"
