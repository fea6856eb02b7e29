"""What must be true after kills: finished runs untouched, results equal, every window drawn once and in its turn."""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mixwright.core.run import Run
from mixwright.store.tokens import TokenStore
from mixwright.stream.loader import plan_for
from mixwright.stream.order import order
from mixwright.train import windows_log

#: files of a run that hold results; ``facts.json`` holds times too
RESULTS = ("observation.json", "trajectory.json")


def finished_runs(work: Path) -> dict[str, tuple[str, int]]:
    """Key -> (hash of all its bytes, when it was sealed) of every finished run."""
    found = {}
    for manifest in (work / "runs").glob("[!.]*/manifest.json"):
        whole = hashlib.sha256()
        for file in sorted(path for path in manifest.parent.rglob("*") if path.is_file()):
            whole.update(file.name.encode() + file.read_bytes())
        found[manifest.parent.name] = (whole.hexdigest(), manifest.stat().st_mtime_ns)
    return found


@dataclass
class Counts:
    """What was seen over all trials of a scenario."""

    kills: int = 0
    commands: int = 0
    trials: int = 0
    finished_at_kills: int = 0
    lost: int = 0
    trained_again: int = 0
    windows: int = 0
    wrong_windows: int = 0
    results: int = 0
    different: int = 0
    left_behind: int = 0
    seconds: float = 0.0
    said: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing was lost, repeated or different."""
        return not (
            self.lost or self.trained_again or self.wrong_windows or self.different or self.left_behind or self.said
        )

    def compare_finished(self, before: dict[str, tuple[str, int]], work: Path) -> None:
        """Runs that were finished at a kill are there at the end, byte for byte and not sealed anew."""
        after = finished_runs(work)
        for key, (whole, sealed) in before.items():
            self.lost += key not in after
            self.trained_again += key in after and after[key] != (whole, sealed)

    def compare_runs(self, work: Path, reference: Path) -> None:
        """All runs have the results of the uninterrupted command, to the bit."""
        for manifest in (reference / "runs").glob("[!.]*/manifest.json"):
            calm, ours = manifest.parent, work / "runs" / manifest.parent.name
            self.results += 1
            self.different += not (ours / "manifest.json").is_file() or not same_run(calm, ours)

    def compare_tokens(self, work: Path, reference: Path) -> None:
        """The token files and their manifests are the same bytes."""
        calm = next(path.parent for path in (reference / "tokenize").glob("[!.]*/manifest.json"))
        ours = work / "tokenize" / calm.name
        for file in sorted(path for path in calm.rglob("*") if path.is_file() and path.parent != calm):
            self.results += 1
            other = ours / file.relative_to(calm)
            self.different += not other.is_file() or other.read_bytes() != file.read_bytes()

    def compare_windows(self, work: Path) -> None:
        """Each step of each run drew what the order has at its positions: the logs of what was drawn say so."""
        corpus = next(path.parent for path in (work / "tokenize").glob("[!.]*/manifest.json"))
        for manifest in sorted((work / "runs").glob("[!.]*/manifest.json")):
            drawn, planned = logged_windows(manifest.parent), planned_windows(manifest.parent, corpus)
            for step in set(drawn) | set(planned):
                self.windows += len(planned.get(step, ()))
                self.wrong_windows += (drawn.get(step, Counter()) - planned.get(step, Counter())).total()
                self.wrong_windows += (planned.get(step, Counter()) - drawn.get(step, Counter())).total()


def same_run(calm: Path, ours: Path) -> bool:
    """Observation and trajectory byte for byte, training losses and checkpoints too."""
    if any((calm / name).read_bytes() != (ours / name).read_bytes() for name in RESULTS):
        return False
    losses = [json.loads((folder / "facts.json").read_text())["train_losses"] for folder in (calm, ours)]
    tensors = [file.relative_to(calm) for file in calm.rglob("*.safetensors")]
    return losses[0] == losses[1] and all((calm / file).read_bytes() == (ours / file).read_bytes() for file in tensors)


Windows = dict[int, Counter[tuple[int, int, int]]]


def logged_windows(run_folder: Path) -> Windows:
    """Step -> the (domain, epoch, window) it drew, as logged; a step that is logged twice has them twice."""
    found: Windows = {}
    for step, rows in windows_log.read(run_folder):
        found.setdefault(step, Counter()).update(map(tuple, rows))
    return found


def planned_windows(run_folder: Path, corpus: Path) -> Windows:
    """The same by the pure function of the position."""
    settings = json.loads((run_folder / "manifest.json").read_text())["settings"]
    run = Run.from_dict(settings["run"])
    stores = {name: TokenStore.open(corpus / "train" / name) for name in run.schedule.domains}
    plan = plan_for(
        stores, run.schedule, run.seed, seq_len=settings["seq_len"], batch=settings["batch"], subsample=run.subsample
    )
    rows = np.stack(order(plan, np.arange(plan.windows)), axis=1).tolist()
    return {
        step + 1: Counter(map(tuple, rows[step * plan.batch : (step + 1) * plan.batch])) for step in range(plan.steps)
    }
