"""What is killed: each scenario is a command, who in it may be killed, and what is compared when it is done."""

import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.faults.checks import Counts, finished_runs
from benchmarks.faults.processes import Process, descendants, left_behind, read
from benchmarks.faults.small import SIZE, TOKENS, Place, write_study

#: seconds a command may take that is not killed
_PATIENCE = 900.0
#: So that there are finished runs to be lost.
_LATER = (0.3, 1.0)
#: So that steps are under way, not only imports.
_UNDER_WAY = (0.25, 0.85)
_TRAIN = ("train", "--size", SIZE, "--tokens", str(TOKENS), "--quiet")
_TRAINING, _RAY_WORKER, _RANK = "mixwright.engine.worker", "ray::work", "mixwright train"


@dataclass(frozen=True)
class Scenario:
    """``command`` after ``python``; ``victims`` are words in the command lines of those that may be killed besides it.

    ``share`` of the kills are for it: commands that take long to start get fewer. Kills come at ``moments``, parts of the
    time it takes undisturbed; each attempt begins where the one before was stopped.
    """

    name: str
    what: str
    command: tuple[str, ...]
    share: float
    victims: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    edits: tuple[tuple[str, str], ...] = ()
    tokens_only: bool = False
    moments: tuple[float, float] = (0.05, 0.6)


SCENARIOS = (
    Scenario("tokenize", "`mixwright tokenize`", ("-m", "mixwright", "tokenize", "--quiet"), 0.2, (_TRAINING,),
             ("tokenize", "design"), tokens_only=True),
    Scenario("sweep", "`mixwright sweep`", ("-m", "mixwright", "sweep", "--quiet"), 0.28, (_TRAINING,), moments=_LATER),
    Scenario("train", "`mixwright train`", ("-m", "mixwright", *_TRAIN), 0.24, (_TRAINING,), moments=_UNDER_WAY),
    Scenario("ranks", "`torchrun --nproc-per-node 2 -m mixwright train`",
             ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "mixwright", *_TRAIN),
             0.14, (_RANK,), moments=_UNDER_WAY),
    Scenario("ray", "`mixwright sweep` on Ray", ("-m", "mixwright", "sweep", "--quiet"), 0.14, (_TRAINING, _RAY_WORKER),
             edits=(("seed: 5\n", "seed: 5\nengine: {kind: ray, address: local, workers: 2}\n"),), moments=_LATER),
)  # fmt: skip


@dataclass
class Bench:
    """Folders, and the studies that scenarios start from."""

    root: Path
    say: Callable[[str], None]

    @classmethod
    def new(cls, say: Callable[[str], None]) -> "Bench":
        """In a temporary folder; the text is curated, tokenized, and the mixtures are chosen."""
        bench = cls(Path(tempfile.mkdtemp(prefix="mixwright-faults-")), say)
        write_study(bench.base)
        bench.calm(Place(bench.base), ("-m", "mixwright", "design", "--quiet"))
        return bench

    @property
    def base(self) -> Path:
        return self.root / "base"

    def calm(self, place: Place, command: tuple[str, ...]) -> float:
        """Run a command to its end; gives the seconds it took."""
        begun, process = time.monotonic(), place.python(*command)
        said = process.communicate(timeout=_PATIENCE)[1]
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed without any kill:\n{said}")
        return time.monotonic() - begun

    def run(self, scenario: Scenario, kills: int, draw: random.Random) -> Counts:
        """Trials until so many kills have been made; every trial goes on until its command ends well, then is checked."""
        begun, counts = time.monotonic(), Counts()
        reference = Place(self.root / f"{scenario.name}-calm")
        self._prepare(reference, scenario)
        whole = self.calm(reference, scenario.command)
        self.say(f"{scenario.name}: {whole:.1f} s without a kill")
        while counts.kills < kills:
            place = Place(self.root / f"{scenario.name}-killed")
            self._prepare(place, scenario)
            Trial(scenario, place, whole, counts, draw, self.say).run(kills)
            if scenario.tokens_only:
                counts.compare_tokens(place.work, reference.work)
            else:
                counts.compare_runs(place.work, reference.work)
                counts.compare_windows(place.work)
        counts.seconds = time.monotonic() - begun
        return counts

    def _prepare(self, place: Place, scenario: Scenario) -> None:
        place.like(self.base, scenario.without)
        study = place.folder / "study.yaml"
        for old, new in scenario.edits:
            study.write_text(study.read_text().replace(old, new))


@dataclass
class Trial:
    """One copy of the study, whose command is started, killed and started again until it ends by itself."""

    scenario: Scenario
    place: Place
    whole: float
    counts: Counts
    draw: random.Random
    say: Callable[[str], None]
    seen: dict[str, tuple[str, int]] = field(default_factory=dict)  # runs that were finished at a kill

    def run(self, kills: int) -> None:
        """Ends when a command has ended well; kills while there are kills to make."""
        self.counts.trials += 1
        for _ in range(200):
            process = self.place.python(*self.scenario.command)
            try:
                if self._attempt(process, kills):
                    break
            finally:
                for left in (*descendants(process.pid), read(process.pid)) if process.poll() is None else ():
                    if left is not None:
                        left.kill()
        else:
            self.counts.said.append(f"{self.scenario.name} never came to its end")
        self.counts.compare_finished(self.seen, self.place.work)

    def _attempt(self, process: "subprocess.Popen[str]", kills: int) -> bool:
        """One command, which is killed or not; True when it has ended well."""
        counts, killed = self.counts, False
        counts.commands += 1
        while counts.kills < kills and not self._ends_within(
            process, self.draw.uniform(*self.scenario.moments) * self.whole
        ):
            before = finished_runs(self.place.work)
            counts.finished_at_kills += len(before)
            counts.kills += 1
            killed = True
            self.seen |= before
            if self._kill(process):
                break
        said = process.communicate(timeout=_PATIENCE)[1]
        if process.returncode and not killed:
            counts.said.append(f"{self.scenario.name} ended with code {process.returncode}: {said.strip()[-300:]}")
            self.say(counts.said[-1])
        return process.returncode == 0

    def _ends_within(self, process: "subprocess.Popen[str]", seconds: float) -> bool:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _kill(self, process: "subprocess.Popen[str]") -> bool:
        """Kill the command or, every other time, one of its victims; True when it was the command."""
        family = descendants(process.pid)
        victims = [p for p in family if any(words in p.words for words in self.scenario.victims)]
        if victims and self.draw.random() < 0.5:
            victim = self.draw.choice(victims)
            self.say(f"  kill {self.counts.kills}: {_name(victim)}")
            victim.kill()
            return False
        own = read(process.pid)
        self.say(f"  kill {self.counts.kills}: the command")
        if own is not None:
            own.kill()
        process.wait()
        ours = [process for process in left_behind(family) if "mixwright" in process.words]
        for process in ours:
            self.say(f"  still there after 20 s: {_name(process)}")
        self.counts.left_behind += len(ours)  # helpers of Ray and torchrun that wait in vain are theirs to end
        return True


def _name(process: Process) -> str:
    return os.path.basename(process.words.split(" ")[0]) + " " + " ".join(process.words.split(" ")[1:4])[:60]  # noqa: PTH119
