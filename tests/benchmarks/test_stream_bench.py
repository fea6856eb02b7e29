"""The stream bench's own arithmetic: which goals there are, what counts as met, what is shown."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.stream import data, written
from benchmarks.stream.__main__ import best

FOUND = {
    "dtype": "uint16", "tokens_per_s": 1e7, "start_s": 0.1, "resume_s": 0.002, "go_s": 0.001, "held_mib": 1.0, "peak_mib": 9.0,
}  # fmt: skip


def results(ours: float, mds: float) -> list[dict]:
    rates = dict.fromkeys(written.OURS, ours) | dict.fromkeys(written.PEERS, 5e7) | {"mosaicml-streaming": mds}
    rates["ours, a tenth of the tokens"] = ours
    return [FOUND | {"system": name, "tokens_per_cpu_s": rate} for name, rate in rates.items()]


def test_goals_are_six_times_the_best_peer_and_a_hundred_times_mosaicml() -> None:
    rows = {(row.what, row.peer): row for row in written.rows(results(4e8, 3e6))}
    assert rows["ours: tokens per CPU-second", "Grain"].met is True
    assert rows["ours: tokens per CPU-second", "Grain"].to_dict()["ratio"] == 8.0
    assert rows["ours: tokens per CPU-second", "mosaicml-streaming"].met is True
    rows = {(row.what, row.peer): row for row in written.rows(results(2e8, 3e6))}
    assert rows["ours: tokens per CPU-second", "Grain"].met is False
    assert rows["ours: tokens per CPU-second", "mosaicml-streaming"].met is False


def test_the_best_of_rounds_and_what_failed() -> None:
    slow, fast = FOUND | {"tokens_per_cpu_s": 1.0}, FOUND | {"tokens_per_cpu_s": 2.0, "start_s": 0.3}
    assert best([slow, {"failed": "why"}, fast]) == FOUND | {"tokens_per_cpu_s": 2.0}
    assert best([{"system": "x", "failed": "why"}])["failed"] == "why"
    assert "failed: why" in written.line({"system": "x", "failed": "why"})


def test_the_page_shows_every_system_and_row() -> None:
    found = [*results(4e8, 3e6)[:-1], {"system": "lost", "failed": "it hangs"}]
    content = {
        "command": "make bench-stream", "commit": "c", "date": "d", "cores": 2, "versions": {"numpy": "2"},
        "rows": [row.to_dict() for row in written.rows(found)], "systems": found,
    }  # fmt: skip
    page = written.markdown(content)
    assert all(f"| {result['system']} |" in page for result in found)
    assert page.count("| met |") + page.count("| **missed** |") == sum(
        row["met"] is not None for row in content["rows"]
    )


@pytest.mark.parametrize("domains", [6, 100, 1000])
def test_the_tokens_are_shared_out(domains: int) -> None:
    sizes = data.sizes(domains)
    assert abs(sum(sizes) - data.TOKENS) < domains * 2 * data.SEQ_LEN
    assert all(size % data.SEQ_LEN == 1 for size in sizes)
    assert np.isclose(data.weights(domains).sum(), 1)
    assert data.weights(domains).min() > 0
