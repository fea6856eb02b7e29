"""The house checks itself: storeys, exported names, what importing costs, words, documents."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mixwright
from mixwright.core.find import FAMILIES, find, names

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "mixwright"
STOREYS = [
    {"core"},
    {"store"},
    {"engine"},
    {"text", "stream", "laws"},
    {"curate", "train", "optimize", "export", "report"},
    {"study"},
    {"cli", "testing"},
]
RANK = {room: rank for rank, rooms in enumerate(STOREYS) for room in rooms}


def imports(file: Path) -> set[str]:
    """The rooms of mixwright that a file imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            modules = [node.module or ""]
            if node.module == "mixwright":
                modules = [f"mixwright.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            continue
        found |= {module.split(".")[1] for module in modules if module.startswith("mixwright.")}
    return found


def room(file: Path) -> str:
    return file.relative_to(SRC).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", sorted(SRC.rglob("*.py")), ids=lambda file: str(file.relative_to(SRC)))
def test_imports_point_down(file: Path) -> None:
    own = room(file)
    if own in ("__init__", "__main__"):
        return
    for other in imports(file) - {own, "__version__"}:
        assert RANK[other] < RANK[own], f"{own} must not import {other}: it is not below it"


def test_every_room_has_a_storey() -> None:
    rooms = {room(file) for file in SRC.rglob("*.py")} - {"__init__", "__main__"}
    assert rooms <= set(RANK)


def test_no_drawer_files() -> None:
    assert not [f for f in SRC.rglob("*.py") if f.stem.strip("_") in {"utils", "util", "misc", "common", "helpers"}]


def test_exported_names_are_sorted_and_all_there() -> None:
    assert list(mixwright.__all__) == sorted(mixwright.__all__)
    for name in mixwright.__all__:
        assert getattr(mixwright, name) is not None


def test_importing_costs_numpy_and_nothing_more() -> None:
    code = (
        "import sys, mixwright\n"
        "heavy = {'torch', 'polars', 'numba', 'plotly', 'pyarrow', 'cvxpy', 'scipy', 'pydantic', 'rich', 'yaml', 'typer'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_table_of_runs_needs_no_torch() -> None:
    code = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "tokenizers", "numba", "transformers", "zstandard", "xxhash", "safetensors"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import mixwright.study.config, mixwright.study.flow, mixwright.study.publish, mixwright.study.report_data
import mixwright.laws.validation, mixwright.optimize.mixture, mixwright.store.runs, mixwright.report.page
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def commands() -> list[str]:
    from mixwright.cli import app

    return sorted(str(c.name or c.callback.__name__) for c in app.registered_commands if c.callback)


def test_the_commands_are_these() -> None:
    assert commands() == [
        "branch", "curate", "demo", "design", "evaluate", "export", "fit", "init", "optimize", "report", "run", "sweep",
        "tokenize", "train", "verify", "why",
    ]  # fmt: skip


def test_every_verb_has_a_page_with_its_options() -> None:
    from mixwright.cli import app

    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__
        page = ROOT / "docs" / "verbs" / f"{name}.md"
        assert page.is_file(), f"docs/verbs/{name}.md is missing"
        text = page.read_text()
        done = subprocess.run([sys.executable, "-m", "mixwright", name, "--help"], capture_output=True, text=True)
        for option in re.findall(r"^\s+(?:-\w, )?(--[a-z-]+)", done.stdout, re.MULTILINE):
            assert option == "--help" or option in text, f"docs/verbs/{name}.md does not mention {option}"


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_plug_in_is_documented(family: str) -> None:
    text = (ROOT / "docs" / "plug-ins.md").read_text()
    for name in names(family):
        assert f"`{name}`" in text, f"docs/plug-ins.md does not mention the {family} plug-in {name}"
        assert find(family, name).__doc__, f"{family} {name} has no docstring"


def test_the_generated_tree_in_the_readme_is_true() -> None:
    readme = (ROOT / "README.md").read_text()
    block = re.search(r"<!-- tree -->\n```\n(.*?)```\n<!-- /tree -->", readme, re.DOTALL)
    assert block, "README.md has no generated tree"
    assert block[1] == tree(), "the tree in README.md is stale; run: python tests/house/test_house.py"


def tree() -> str:
    """The rooms with the first line of their docstrings."""
    lines = ["src/mixwright/\n"]
    for path in sorted(SRC.iterdir(), key=lambda p: (-RANK.get(p.stem, 99), p.name)):
        file = path / "__init__.py" if path.is_dir() else path
        if path.name in ("__pycache__", "py.typed", "__main__.py", "__init__.py") or not file.is_file():
            continue
        doc = ast.get_docstring(ast.parse(file.read_text())) or ""
        lines.append(f"  {path.name + ('/' if path.is_dir() else ''):12} {doc.splitlines()[0]}\n")
    return "".join(lines)


def test_the_project_speaks_of_itself_alone() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    registries = [a + "." + b for a, b in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "com"))]
    for name in listed.stdout.splitlines():
        file = ROOT / name
        if file.is_file() and file.suffix in {".py", ".md", ".toml", ".txt", ".yaml", ".html", ".js", ".css", ""}:
            text = file.read_text("utf-8", "replace")
            for word in registries:
                assert word not in text, f"{name} names the registry host {word}"


if __name__ == "__main__":
    readme = ROOT / "README.md"
    text = re.sub(
        r"(<!-- tree -->\n```\n).*?(```\n<!-- /tree -->)",
        lambda m: m[1] + tree() + m[2],
        readme.read_text(),
        flags=re.DOTALL,
    )
    readme.write_text(text)
