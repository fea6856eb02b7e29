"""What a person sees while a stage runs, at 80 columns and without a terminal."""

import io
import re

import pytest
from rich.console import Console

from mixwright.study import terminal as module
from mixwright.study.listener import StageEnd
from mixwright.study.terminal import Terminal, clock


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_DRAW_EVERY", "_LINE_EVERY", "_LINE_PART"):
        monkeypatch.setattr(module, name, -1.0)


def shown(stage: str, *, terminal: bool, heard: list[tuple[str, float, dict]], count: int = 3) -> str:
    out = io.StringIO()
    watcher = Terminal(Console(file=out, width=80, force_terminal=terminal, color_system=None), 2)
    watcher.begin(stage, "train one small model per mixture", {f"run-{n}": 10.0 for n in range(count)})
    for task, fraction, facts in heard:
        watcher.progress(task, fraction, facts)
    watcher.end(StageEnd(stage, False, 65.0, ("a sentence",)))
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue()).replace("\r", "\n")


HEARD = [
    ("run-0", 1.0, {"status": "done"}),
    ("run-1", 0.25, {"loss": 5.4321, "tokens_per_second": 12345.0, "seconds_left": 75.0, "step": 3}),
    ("run-2", 0.0, {"again": "The process of run-2 was killed by signal 9 [sic]."}),
]


def test_a_table_of_what_runs_at_80_columns() -> None:
    text = shown("sweep", terminal=True, heard=HEARD)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "sweep train one small model per mixture (3 tasks, about 30 CPU-seconds, 15 s" in text
    assert re.search(r"run +done +loss +tokens/s +left", text)
    assert re.search(r"run-1 +25% +5\.432 +12\.3k +1:15", text)
    assert "42%  1 done, 1 running, 1 waiting" in text
    assert "note run-2 is begun again: The process of run-2 was killed by signal 9 [sic]." in " ".join(text.split())
    assert text.rstrip().endswith("sweep took 1:05")


def test_plain_lines_without_a_terminal() -> None:
    lines = shown("sweep", terminal=False, heard=HEARD).splitlines()
    at = lines.index("  sweep 42%  1 done, 1 running, 1 waiting")
    assert lines[at + 1] == "    run-1 25% loss 5.432, 12.3k tokens/s"


def test_many_runs_are_cut_and_other_stages_show_their_facts() -> None:
    heard = [(f"run-{n}", 0.5, {"loss": 1.0}) for n in range(20)]
    assert "and 8 more" in shown("sweep", terminal=True, heard=heard, count=20)
    text = shown("curate", terminal=True, heard=[("run-0", 0.5, {"documents": 12345})])
    assert re.search(r"run-0 +50% +12,345 documents", text)


def test_an_end_that_is_none_leaves_nothing_drawn() -> None:
    out = io.StringIO()
    watcher = Terminal(Console(file=out, width=80, force_terminal=True), 2)
    watcher.begin("sweep", "train", {"a": 1.0})
    watcher.close()
    watcher.close()
    assert out.getvalue().endswith("\x1b[?25h\r\x1b[1A\x1b[2K"), "the cursor is back and the line wiped"


@pytest.mark.parametrize(("seconds", "text"), [(7.2, "7 s"), (125, "2:05"), (3725, "1:02:05")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("rate", "text"), [(950.0, "950"), (12345.0, "12.3k"), (1.5e6, "1.5M"), (999_999.0, "1000k"), (123_456.0, "123k")]
)
def test_rates(rate: float, text: str) -> None:
    assert module._rate(module.Entry(1.0, facts={"tokens_per_second": rate})) == text
