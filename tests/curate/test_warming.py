"""What is compiled before the tasks of a run is all that they run."""

import sys
from pathlib import Path

import pytest
from curation_for_tests import jsonl, run

from mixwright.curate.dedup.options import Near, Substring
from mixwright.curate.dedup.options import Options as Dedup
from mixwright.curate.measuring import Measured
from mixwright.curate.rules import Options
from mixwright.curate.warming import warm

OPTIONS = Options(presets=("gopher", "c4", "fineweb"), dedup=Dedup(near=Near(), lines=True), target_ngram=3)
SUBSTRING = Options(dedup=Dedup(near=Near(), substring=Substring(10)), target_ngram=3)


def versions() -> dict[str, list[str]]:
    """Every compiled function that is loaded, and for which types."""
    found = {}
    for name, module in list(sys.modules.items()):
        if name.startswith("mixwright.curate") and module is not None:
            for one in vars(module).values():
                if hasattr(one, "nopython_signatures"):
                    found[f"{one.py_func.__module__}.{one.py_func.__name__}"] = sorted(map(str, one.signatures))
    return found


@pytest.mark.parametrize("options", [OPTIONS, SUBSTRING])
def test_tasks_compile_nothing_after_it(tmp_path: Path, options: Options) -> None:
    place = Measured(tmp_path / "measured")
    place.prepared.mkdir(parents=True)
    warm(place, options)
    before = versions()
    assert sum(map(len, before.values())) > 10
    assert list(place.folder.rglob("*")) == [place.prepared.parent, place.prepared], "nothing of it is kept"
    line = "A line that stands in many of the texts and is cut out of all of them but one of them.\n"
    own = "One more line of the text that is cut out of nothing whatever, since others do not have it: {}.\n"
    source = jsonl(tmp_path / "a.jsonl", [line * 2 + own.format(n) * 4 for n in range(6)] + [line, "1 2 3"])
    target = jsonl(tmp_path / "b.jsonl", [own.format(7), line])
    _, draft = run(tmp_path, {"a": source}, {"b": target}, options)
    assert (draft.path / "ledger").is_dir()
    assert versions() == before
