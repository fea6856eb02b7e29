"""The parts of the bench: what is run, on which slice, and what is kept of it."""

import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.curate import judge, measured
from benchmarks.curate.measured import Run, best
from benchmarks.curate.slices import bytes_of

#: which peers do what
DOING = {
    "filters": ("datatrove", "juicer"), "near": ("datatrove", "juicer", "datasketch"), "exact": ("datatrove", "juicer"),
    "whole": ("datatrove", "juicer"),
}  # fmt: skip
SLICE = {"filters": "filters", "near": "dedup", "exact": "dedup", "whole": "dedup"}
#: peers too slow to be run more than once
ONCE = {("datatrove", "near"), ("datatrove", "whole"), ("datasketch", "near")}


@dataclass
class Bench:
    """Where the corpus and its slices are, and what was found: part -> who -> figures. ``last`` holds peers' old figures."""

    place: Path
    slices: dict[str, Path]
    folder: Path
    rounds: int
    last: dict[str, Any]
    peers_only: bool = False
    found: dict[str, dict[str, Any]] = field(default_factory=dict)
    _starts: dict[tuple[str, str], list[Run]] = field(default_factory=dict)

    @property
    def corpus(self) -> Path:
        return self.place / "corpus.parquet"

    def run(self, who: str, task: str, path: Path, name: str, **more: Any) -> Run:
        done = (
            measured.ours(task, path, self.folder / name, **more)
            if who == "ours"
            else measured.peers(who, task, path, self.folder / name, **more)
        )
        print(
            f"  {who:11} {task:9} {path.stem:14} {done.cpu_s:8.2f} CPU s  {done.peak_mb:6.0f} MB  {done.failed}",
            flush=True,
        )
        return done

    def measure(self, who: str, task: str, path: Path) -> dict[str, Any]:
        """MB/s of CPU time less the tool's own start (the same task on a few documents), documents/s, peak memory.

        The best of some rounds, of twice as many starts; the first of those, which compiles and installs, counts for nothing.
        """
        few = (who, task, self.slices["start"], f"start-{who}-{task}")
        if (who, task) not in self._starts:
            self.run(*few)
            self._starts[who, task] = [self.run(*few) for _ in range(2 * self.rounds)]
        starts, rounds = self._starts[who, task], 1 if (who, task) in ONCE else self.rounds
        start, done = best(starts).cpu_s, best([self.run(who, task, path, f"{who}-{task}") for _ in range(rounds)])
        size = bytes_of(path)
        if done.failed:
            return {"failed": done.failed}
        # what takes no longer than starts differ is not measured better than that
        spread = statistics.median(one.cpu_s for one in starts) - start
        seconds = max(done.cpu_s - start, spread, 1e-3)
        return {
            "mb_per_cpu_s": size["bytes"] / 1e6 / seconds, "documents_per_cpu_s": size["documents"] / seconds,
            "cpu_s": done.cpu_s, "start_s": start, "wall_s": done.wall_s, "peak_mb": done.peak_mb, "told": done.told,
            "megabytes": size["bytes"] / 1e6, "documents": size["documents"],
        }  # fmt: skip

    def side_by_side(self, task: str) -> None:
        """Peers and ours on the slice, and ours on the whole."""
        path = self.slices[SLICE[task]]
        found = self.found.setdefault(task, {})
        for peer in DOING[task]:
            old = self.last.get(task, {}).get(peer)
            found[peer] = old or self.measure(peer, task, path)
        if self.peers_only:
            return
        found["ours, slice"] = self.measure("ours", task, path)
        found["ours"] = self.measure("ours", task, self.corpus)


def filters(bench: Bench) -> None:
    bench.side_by_side("filters")
    if bench.peers_only:
        return
    bench.found["filters"]["ours as datatrove"] = bench.measure("ours", "datatrove", bench.slices["filters"])


def near(bench: Bench) -> None:
    bench.side_by_side("near")
    path, truth, found = bench.slices["dedup"], bench.place / "truth.parquet", bench.found["near"]
    for peer in DOING["near"]:
        if "removed" not in found[peer] and "failed" not in found[peer]:
            found[peer] |= measured.apart(judge.peer, peer, bench.folder / f"{peer}-near", path, truth)
    if bench.peers_only:
        return
    found["ours, slice"] |= measured.apart(judge.ours, _again(bench, "near", path), path, truth)
    found["ours"] |= measured.apart(judge.ours_named, _again(bench, "near", bench.corpus), bench.corpus, truth)


def _again(bench: Bench, task: str, path: Path) -> Path:
    bench.run("ours", task, path, f"ours-{task}-judged")
    return bench.folder / f"ours-{task}-judged"


def exact(bench: Bench) -> None:
    bench.side_by_side("exact")


def whole(bench: Bench) -> None:
    bench.side_by_side("whole")


def redeciding(bench: Bench) -> None:
    """Rows a second: other thresholds over the stored signals of many rows, reading included."""
    done = measured.run(
        [sys.executable, "-m", "benchmarks.curate.redeciding", bench.corpus, bench.folder / "redeciding"],
        bench.folder / "redeciding",
    )
    bench.found["redeciding"] = {"ours": done.told | {"failed": done.failed, "peak_mb": done.peak_mb}}


def memory(bench: Bench) -> None:
    """Peak memory of the whole pipeline, on the slice and on the whole, and of the peers where they were measured."""
    found = {}
    for name, path in (("ours, slice", bench.slices["dedup"]), ("ours", bench.corpus)):
        done = bench.run("ours", "whole", path, "ours-memory", watch=True)
        size = bytes_of(path)
        found[name] = {
            "peak_mb": done.peak_mb, "disk_mb": done.disk_mb, "files": done.files, "documents": size["documents"],
            "limit_mb": 1500 + 64 * size["documents"] / 1e6, "failed": done.failed,
        }  # fmt: skip
    for peer in DOING["near"]:
        for task in ("near", "whole"):
            old = bench.found.get(task, bench.last.get(task, {})).get(peer, {})
            if "peak_mb" in old:
                found.setdefault(peer, {"peak_mb": 0.0})
                found[peer]["peak_mb"] = max(found[peer]["peak_mb"], old["peak_mb"])
    bench.found["memory"] = found


def cores(bench: Bench) -> None:
    """The whole pipeline with one worker and with two, in turn; as everywhere less the same on a few documents."""
    times: dict[tuple[int, str], list[tuple[float, float]]] = {}
    for name, path in (("start", bench.slices["start"]), ("corpus", bench.corpus)):
        for _ in range(bench.rounds + 1):
            for workers in (1, 2):
                done = bench.run("ours", "whole", path, f"ours-cores-{workers}", workers=workers)
                if done.told:
                    times.setdefault((workers, name), []).append((done.told["took_s"], done.told["cpu_s"]))
    if len(times) < 4:
        bench.found["cores"] = {"ours": {"failed": "no run"}}
        return
    wall = {which: min(one[0] for one in held) for which, held in times.items()}
    cpu = {which: min(one[1] for one in held) for which, held in times.items()}
    net = {workers: wall[workers, "corpus"] - wall[workers, "start"] for workers in (1, 2)}
    bench.found["cores"] = {
        "ours": {
            "wall_1_s": wall[1, "corpus"], "wall_2_s": wall[2, "corpus"], "start_1_s": wall[1, "start"],
            "start_2_s": wall[2, "start"], "times": net[1] / net[2],
            "times_with_start": wall[1, "corpus"] / wall[2, "corpus"],
            "cpu_1_s": cpu[1, "corpus"], "cpu_2_s": cpu[2, "corpus"],
            "idle_share_1": max(0.0, 1 - cpu[1, "corpus"] / wall[1, "corpus"]),
        }
    }  # fmt: skip


PARTS: dict[str, Callable[[Bench], None]] = {
    "filters": filters, "near": near, "exact": exact, "whole": whole, "redeciding": redeciding, "memory": memory,
    "cores": cores,
}  # fmt: skip


def scale(place: Path, folder: Path, workers: int) -> dict[str, Any]:
    """The whole pipeline on a corpus of several GB."""
    facts = json.loads((place / "facts.json").read_text())
    out: dict[str, Any] = {
        "corpus": {key: facts[key] for key in facts if key not in ("packages", "missing")},
        "workers": workers,
    }
    for task in ("whole", "dedup"):
        began = time.time()
        done = measured.ours(
            task, place / "corpus.parquet", folder / f"scale-{task}", workers, watch=True, patience=3600
        )
        told = done.told
        out[task] = {
            "failed": done.failed, "cpu_s": done.cpu_s, "wall_s": done.wall_s, "peak_mb": done.peak_mb,
            "limit_mb": 1500 + 64 * facts["documents"] / 1e6, "disk_mb": done.disk_mb, "files": done.files,
            "mb_per_cpu_s": facts["bytes"] / 1e6 / done.cpu_s if done.cpu_s else None,
            "mb_per_s": facts["bytes"] / 1e6 / done.wall_s if done.wall_s else None, "told": told,
            "bytes_per_document": {key: value / facts["documents"] for key, value in told.get("disk", {}).items()},
        }  # fmt: skip
        if not done.failed and task == "dedup":
            out["planted"] = measured.apart(_recall, place, folder / "scale-dedup" / "removed.npz")
        shutil.rmtree(folder / f"scale-{task}", ignore_errors=True)
        print(f"{task}: {json.dumps(out[task])} ({time.time() - began:.0f} s)", flush=True)
    out["cores"] = _by_workers(place / "corpus.parquet", folder, workers)
    print(f"cores: {json.dumps(out['cores'])}", flush=True)
    return out


def _by_workers(corpus: Path, folder: Path, workers: int) -> dict[str, Any]:
    """Seconds by the wall of the whole pipeline with one worker and with so many, where nothing looks on."""
    took = {}
    for count in (1, workers):
        done = measured.ours("whole", corpus, folder / "scale-cores", count, patience=3600)
        took[count] = done.told.get("took_s")
        shutil.rmtree(folder / "scale-cores", ignore_errors=True)
    one, more = took[1], took[workers]
    return {"wall_1_s": one, f"wall_{workers}_s": more, "times": one / more if one and more else None}


def _recall(place: Path, removed: Path) -> dict[str, float]:
    """Recall on planted pairs, by ids alone: the texts are not read."""
    import pyarrow.parquet as pq

    ids = pq.read_table(place / "corpus.parquet", columns=["id"])["id"].to_pylist()
    gone = {ids[row] for row in np.load(removed)["rows"].tolist()}
    truth = pq.read_table(place / "truth.parquet").to_pylist()
    return {
        f"planted_{level}": float(
            np.mean([one["id"] in gone or one["of"] in gone for one in truth if one["jaccard"] >= level])
        )
        for level in judge.LEVELS
    }
