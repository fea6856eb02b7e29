"""Python source taken apart and still whole."""

import ast
import sysconfig
from pathlib import Path

import pytest

from mixwright.curate.docstrings import take_apart

SOURCE = '''"""Short."""

def f():
    """Two
    lines."""
    return "not\\na docstring"

class A:
    def g(self): "One line of more than thirty characters, é."; return 1

    if True:
        async def h(self):
            r"""
            Indented text that is long enough

                and a block.
            """
'''


def test_code_and_long_docstrings() -> None:
    code, docs = take_apart(SOURCE, long=30)
    assert docs == [
        ("A.g", "One line of more than thirty characters, é."),
        ("A.h", "Indented text that is long enough\n\n    and a block."),
    ]
    assert code.splitlines() == [
        '"""Short."""', "", "def f():", '    """..."""', '    return "not\\na docstring"', "", "class A:",
        '    def g(self): """..."""; return 1', "", "    if True:", "        async def h(self):", '            """..."""',
    ]  # fmt: skip


@pytest.mark.parametrize("source", ["def f(:\n  pass", "x = '\x00'", "print 'old'", "(" * 5000])
def test_what_does_not_parse_comes_back_whole(source: str) -> None:
    assert take_apart(source, long=200) == (source, [])


@pytest.mark.parametrize("name", ["argparse.py", "typing.py", "ast.py", "doctest.py"])
def test_the_code_stays_code(name: str) -> None:
    source = Path(sysconfig.get_path("stdlib"), name).read_text("utf-8")
    code, docs = take_apart(source, long=200)
    assert all(len(text) >= 200 for _, text in docs)
    assert all(text not in code for _, text in docs)
    before, after = ast.parse(source), ast.parse(code)
    assert [type(node) for node in ast.walk(before)] == [type(node) for node in ast.walk(after)]
