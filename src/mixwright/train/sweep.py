"""The sweep: every run that is wanted, each trained once, whatever stops it on the way.

A finished run is an artifact ``runs/<key>/`` whose key is the hash of all that decides its outcome: schedule, size,
seed, trainer and settings, tokens, parent, checkpoints, and ``CODE_VERSION``; the run's name and role are not part of
it, so equal trainings with different names are one. A run that diverged is an artifact too, with status ``failed``. A
crashed process leaves a partial folder that the next attempt goes on from, and never counts as done.

Nothing waits for more than it needs: a branch starts when its own parent is done. The dearest work starts first, dear
being what a run costs with all that waits for it, by what runs like it were measured to take (``costs.py``). Runs that
the trainer trains together share a process; where that process dies twice, each goes on in one of its own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mixwright.core.errors import (
    DataError,
    Interrupted,
    MixwrightError,
    ResourceError,
    RunsFailedError,
    StudyError,
)
from mixwright.core.observation import FAILED, Observation
from mixwright.core.run import Run
from mixwright.engine.locks import held
from mixwright.engine.task import Engine, Outcome, Session, Task
from mixwright.store.artifact import (
    Artifact,
    Draft,
    Workspace,
    content_key,
    read_json,
    write_atomic,
    write_json,
)
from mixwright.store.token_checks import verify_all
from mixwright.stream.order import ORDER_VERSION
from mixwright.train.costs import Costs, seconds_of
from mixwright.train.trainer import FACTS, OBSERVATION, Job, Trainer, write_results

VERB = "runs"
#: Raised whenever the same run would come out different, so that old results are not taken for new ones.
CODE_VERSION = 2
#: How often a run, or a group of runs, whose process crashed is begun again within one sweep.
_RETRIES = 1
#: Held by the process that trains the run of a folder.
_LOCK = ".lock"
#: Why earlier attempts of a run ended, a list of sentences; its artifact's ``info`` holds them in the end.
_REASONS = ".reasons.json"
#: In the workspace: which token files were verified, so that each is read once.
_VERIFIED = "verified.json"
#: What the process of a run that was given up said last.
_TRACE = ".trace.txt"
_ERRORS: dict[int, type[MixwrightError]] = {2: StudyError, 3: DataError, 5: ResourceError}


@dataclass(frozen=True)
class Finished:
    """A run that ended, well or failed: its artifact, and its observation under the name it was asked for."""

    run: Run
    artifact: Artifact
    observation: Observation


def run_key(
    run: Run,
    trainer: Trainer,
    *,
    corpus: Artifact | None = None,
    checkpoints: Sequence[int] = (),
    parent: str | None = None,
) -> str:
    """The key of a run's artifact; ``parent`` is that of the run it branches from."""
    values = {name: value for name, value in run.to_dict().items() if name not in ("run_id", "role", "parent")}
    fingerprint = None if corpus is None else corpus.fingerprint
    return content_key(
        "mixwright/run", CODE_VERSION, ORDER_VERSION, values, run.schedule.domains, trainer.identity(), fingerprint,
        sorted(set(checkpoints)), parent,
    )  # fmt: skip


def sweep(
    runs: Sequence[Run],
    trainer: Trainer,
    *,
    workspace: Workspace,
    corpus: Artifact | None,
    engine: Engine,
    checkpoints: Mapping[str, tuple[int, ...]] | None = None,
    on_progress: Callable[[str, float, dict[str, Any]], None] | None = None,
    on_done: Callable[[Finished], None] | None = None,
    on_cost: Callable[[str, float], None] | None = None,
) -> list[Finished]:
    """Train all ``runs`` (dearest first, as many at once as the engine has slots); gives them in their order.

    ``checkpoints`` maps run ids to the training tokens at which to keep one; a parent whose branch is in ``runs`` keeps
    the branch's by itself. Runs whose artifact is there are found, not trained. ``on_progress(run id, fraction, facts)``
    hears of every run: at its end with ``status`` among the facts, when its process crashed and it is tried again with
    fraction 0 and the reason as ``again``. ``on_done`` hears of each that ended, ``on_cost(run id, CPU-seconds)`` what a
    run that is not done is expected to cost, again as measurements come in.

    A process that crashed is begun again; a run that fails in the end lets the others finish. Raises StudyError for a
    branch whose parent is not in ``runs``; RunsFailedError, when all others are done, if runs crashed at every attempt;
    Interrupted on Ctrl-C; and errors of tasks that a user can act on: at once while no run has ended, since the next would
    meet the same, or when disk or memory are full; else when all others are done. What was finished before is kept in
    every case.
    """
    wanted = _Wanted.of(runs, trainer, corpus, checkpoints or {})
    work = _Sweep(wanted, trainer, workspace, corpus, engine, _Heard(on_progress, on_done, on_cost))
    try:
        work.train()
    except KeyboardInterrupt:
        raise Interrupted(
            f"Stopped: {len(work.done)} of {len(runs)} runs are finished and kept; the same command goes on from there."
        ) from None
    return [work.done[run.run_id] for run in runs]


@dataclass(frozen=True)
class _Wanted:
    """The runs by name, the checkpoints each keeps, and its key."""

    runs: Mapping[str, Run]
    keep: Mapping[str, tuple[int, ...]]
    keys: Mapping[str, str]

    @classmethod
    def of(
        cls, runs: Sequence[Run], trainer: Trainer, corpus: Artifact | None, checkpoints: Mapping[str, tuple[int, ...]]
    ) -> _Wanted:
        named = {run.run_id: run for run in runs}
        if len(named) < len(runs):
            twice = sorted({run.run_id for run in runs if sum(other.run_id == run.run_id for other in runs) > 1})
            raise DataError(
                f"Each run of a sweep needs a name of its own; {', '.join(twice[:5])} stands more than once."
            )
        unknown = sorted(set(checkpoints) - set(named))
        if unknown:
            raise DataError(f"Checkpoints are asked of {', '.join(unknown)}, which is not among the runs.")
        keep = {name: set(checkpoints.get(name, ())) for name in named}
        for run in runs:
            if run.parent is not None:
                if run.parent not in named:
                    raise StudyError(
                        f"Run {run.run_id} branches from {run.parent}, which is not in this sweep. Give the parent with it; "
                        "a parent that is trained already is found, not trained again."
                    )
                keep[run.parent].add(run.parent_tokens)
        kept = {name: tuple(sorted(tokens)) for name, tokens in keep.items()}
        keys: dict[str, str] = {}

        def key(name: str) -> str:
            if name not in keys:
                run = named[name]
                parent = key(run.parent) if run.parent is not None else None
                keys[name] = run_key(run, trainer, corpus=corpus, checkpoints=kept[name], parent=parent)
            return keys[name]

        for name in named:
            key(name)
        return cls(named, kept, keys)

    @cached_property
    def same(self) -> Mapping[str, Sequence[Run]]:
        """The runs of each key: equal trainings under several names."""
        found: dict[str, list[Run]] = defaultdict(list)
        for name, run in self.runs.items():
            found[self.keys[name]].append(run)
        return found

    @cached_property
    def branches(self) -> Mapping[str | None, Sequence[Run]]:
        """The runs that branch from each run, by its name; None: those that branch from none."""
        found: dict[str | None, list[Run]] = defaultdict(list)
        for run in self.runs.values():
            found[run.parent].append(run)
        return found


@dataclass(frozen=True)
class _Heard:
    """Who hears of what."""

    on_progress: Callable[[str, float, dict[str, Any]], None] | None
    on_done: Callable[[Finished], None] | None
    on_cost: Callable[[str, float], None] | None

    def progress(self, name: str, fraction: float, facts: dict[str, Any]) -> None:
        """Also of the runs of a group, whose progress names the run."""
        if self.on_progress is not None:
            self.on_progress(str(facts.get("run", name)), fraction, {k: v for k, v in facts.items() if k != "run"})

    def done(self, finished: Finished) -> None:
        self.progress(finished.run.run_id, 1.0, {"status": finished.observation.status})
        if self.on_done is not None:
            self.on_done(finished)

    def cost(self, name: str, cpu_seconds: float) -> None:
        if self.on_cost is not None:
            self.on_cost(name, cpu_seconds)


class _Sweep:
    """A sweep under way; ``done`` holds the finished runs by name."""

    def __init__(
        self,
        wanted: _Wanted,
        trainer: Trainer,
        workspace: Workspace,
        corpus: Artifact | None,
        engine: Engine,
        heard: _Heard,
    ) -> None:
        self.wanted, self.trainer, self.workspace, self.corpus = wanted, trainer, workspace, corpus
        self.engine, self.heard = engine, heard
        self.costs = Costs.of(workspace)
        self.done: dict[str, Finished] = {}
        self.at_work: dict[str, tuple[Job, ...]] = {}  # the task's name -> what it trains
        self.crashes: Counter[frozenset[str]] = Counter()  # by the runs that were trained together
        self.lost: dict[str, str] = {}  # runs given up in this sweep -> the last reason
        self.refused: dict[str, MixwrightError] = {}  # runs that a user must do something about
        self.trained = self.measured = 0
        self.checked = False

    def train(self) -> None:
        """Find or train all runs; raises what ``sweep`` says."""
        with self.engine.session(self.heard.progress) as session:
            self._begin(self.wanted.branches[None], session)
            self._say_costs()
            for outcome in session:
                self._ended(outcome, session)
        self._complain()

    # ---- what starts ---------------------------------------------------------------------------------------------

    def _begin(self, runs: Iterable[Run], session: Session) -> None:
        """Find these runs or let them be trained, and go on to their branches; their parents are done."""
        keys = dict.fromkeys(self.wanted.keys[run.run_id] for run in runs)
        missing = []
        for key in keys:
            run = self.wanted.same[key][0]
            artifact = self._there(key, run)
            if artifact is None:
                missing.append(self._job(run))
            else:
                self._finish(run, artifact, session)
        if missing:
            self._check_tokens()
            for group in self.trainer.groups(missing, slots=self.engine.room(self._task(missing[:1]))):
                self._submit(group, session)

    def _check_tokens(self) -> None:
        """Before the first training: every byte of the tokens that has not been verified before. DataError names a bad file."""
        if self.corpus is None or self.checked:
            return
        verify_all(self.corpus.path.absolute(), self.workspace.root / _VERIFIED)
        self.checked = True

    def _job(self, run: Run) -> Job:
        name = run.run_id
        parent = None if run.parent is None else self.done[run.parent].artifact.path.absolute()
        return Job(run, self._draft(run).path.absolute(), self.wanted.keep[name], parent)

    def _draft(self, run: Run) -> Draft:
        return self.workspace.draft(VERB, self.wanted.keys[run.run_id])

    def _submit(self, jobs: Sequence[Job], session: Session) -> None:
        """Let these runs be trained: one by itself, or several together."""
        first, others = jobs[0].run.run_id, len(jobs) - 1
        task = self._task(jobs)
        task = replace(
            task,
            name=f"{first} and {others} more" if others else first,
            cost=self._priority(jobs, task),
            locks=tuple(str(job.out / _LOCK) for job in jobs),
        )
        self.at_work[task.name] = tuple(jobs)
        session.submit(task)

    def _task(self, jobs: Sequence[Job]) -> Task:
        corpus = None if self.corpus is None else self.corpus.path.absolute()
        if len(jobs) > 1:
            return self.trainer.together(jobs, corpus=corpus)
        job = jobs[0]
        return self.trainer.task(job.run, corpus=corpus, out=job.out, checkpoints=job.checkpoints, parent=job.parent)

    def _priority(self, jobs: Sequence[Job], task: Task) -> float:
        """CPU-seconds of a task with the longest chain of branches that waits for one of its runs."""
        own = self.costs.corrected(self.trainer, jobs[0].run, task.cost, together=len(jobs) > 1)
        return own + max(self._cost_of_branches(job.run.run_id) for job in jobs)

    def _cost_of_branches(self, name: str) -> float:
        """CPU-seconds of the longest chain of branches that waits for a run."""
        branches = self.wanted.branches.get(name, ())
        chains = (self.costs.cpu_seconds(self.trainer, run) + self._cost_of_branches(run.run_id) for run in branches)
        return max(chains, default=0.0)

    def _say_costs(self) -> None:
        for name, run in self.wanted.runs.items():
            if name not in self.done:
                self.heard.cost(name, self.costs.cpu_seconds(self.trainer, run))

    # ---- what ends -----------------------------------------------------------------------------------------------

    def _ended(self, outcome: Outcome, session: Session) -> None:
        """Keep what was finished, and try the rest again or give it up."""
        jobs = self.at_work.pop(outcome.task.name)
        finished = [job for job in jobs if (job.out / OBSERVATION).is_file()]
        left = [job for job in jobs if job not in finished]
        if finished and not left:
            self._measure(jobs, session)
        for job in finished:
            self.trained += 1
            self._finish(job.run, self._seal(self._draft(job.run), job.run), session)
        if left:
            self._again(left, outcome, session)

    def _again(self, jobs: Sequence[Job], outcome: Outcome, session: Session) -> None:
        """Runs that are not finished: their process crashed, or the trainer refused them."""
        reason = f"{outcome.error or f'The process of {outcome.task.name} left no {OBSERVATION}'}".rstrip(".") + "."
        if outcome.kind in _ERRORS and len(jobs) == 1:
            self._refuse(jobs[0].run.run_id, _ERRORS[outcome.kind](f"Run {jobs[0].run.run_id}: {reason}"))
            return
        names = frozenset(job.run.run_id for job in jobs)
        self.crashes[names] += 1
        for job in jobs:
            _remember(job.out, reason)
        if len(jobs) > 1 and (self.crashes[names] > _RETRIES or outcome.kind in _ERRORS):
            attempts = [[job] for job in jobs]
        elif self.crashes[names] > _RETRIES:
            self._give_up(jobs[0], reason, outcome.trace)
            return
        else:
            attempts = [list(jobs)]
        for job in jobs:
            self.heard.progress(job.run.run_id, 0.0, {"again": reason})
        for attempt in attempts:
            self._submit(attempt, session)

    def _give_up(self, job: Job, reason: str, trace: str) -> None:
        """Go on without a run; what its process said last is kept beside its files."""
        said = ""
        if trace:
            write_atomic(job.out / _TRACE, trace)
            said = f" What it said last is in {job.out / _TRACE}."
        self.lost[job.run.run_id] = reason + said

    def _refuse(self, name: str, error: MixwrightError) -> None:
        if isinstance(error, ResourceError) or not self.trained:
            raise error
        self.refused[name] = error

    def _measure(self, jobs: Sequence[Job], session: Session) -> None:
        """Let the costs know what this took, and now and then what waits be ordered anew by them."""
        spent, together = sum(seconds_of(read_json(job.out / FACTS)) for job in jobs), len(jobs) > 1
        if self.costs.measured(self.trainer, jobs[0].run, spent, self._task(jobs).cost, together=together):
            self.measured += 1
            if self.measured & (self.measured - 1) == 0:  # after 1, 2, 4, 8 ... measurements
                self._say_costs()
                session.revise({name: self._priority(own, self._task(own)) for name, own in self.at_work.items()})

    def _there(self, key: str, run: Run) -> Artifact | None:
        """The artifact of a finished run, also of one whose process was killed just before sealing it."""
        found = self.workspace.find(VERB, key)
        if found is not None:
            return found
        parent = self.done[run.parent] if run.parent is not None else None
        draft = self.workspace.draft(VERB, key)
        if parent is not None and parent.observation.status == FAILED:
            reason = f"its parent {parent.run.run_id} failed: {parent.observation.reason}"
            write_results(
                draft.path, Observation(run, 0, 0, {}, status=FAILED, reason=reason), [], {"cpu_seconds": 0.0}
            )
        if not (draft.path / OBSERVATION).is_file():
            return None
        with held([str(draft.path / _LOCK)]):
            return self._seal(draft, run)

    def _seal(self, draft: Draft, run: Run) -> Artifact:
        inputs = {} if self.corpus is None else {"tokenize": self.corpus.key}
        if run.parent is not None:
            inputs["parent"] = self.done[run.parent].artifact.key
        reasons = _reasons(draft.path)
        return draft.seal(
            settings={"run": run.to_dict(), "keep": self.wanted.keep[run.run_id], **self.trainer.identity()},
            inputs=inputs,
            info={"attempts": 1 + len(reasons), "crashes": reasons} if reasons else {},
        )

    def _finish(self, run: Run, artifact: Artifact, session: Session) -> None:
        """A training is done, under all its names; what waited for it begins."""
        measured = Observation.from_dict(artifact.json(OBSERVATION))
        same = self.wanted.same[self.wanted.keys[run.run_id]]
        for one in same:
            finished = Finished(one, artifact, replace(measured, run=one))
            self.done[one.run_id] = finished
            self.heard.done(finished)
        waiting = [branch for one in same for branch in self.wanted.branches.get(one.run_id, ())]
        if waiting:
            self._begin(waiting, session)

    def _complain(self) -> None:
        """Raise if runs are missing at the end."""
        missing = len(self.wanted.runs) - len(self.done)
        if not missing:
            return
        waiting = missing - len(self.lost) - len(self.refused)
        end = f" {waiting} that branch from them or equal them wait." if waiting else ""
        end += f" The other {len(self.done)} are finished and kept" if self.done else " None is finished"
        end += "; the same command tries these again."
        if self.refused:
            error = next(iter(self.refused.values()))
            others = len(self.refused) + len(self.lost) - 1
            raise type(error)(f"{error}{f' {others} other runs failed too.' if others else ''}{end}")
        raise RunsFailedError(f"{_told(self.lost)}{end}")


def _told(lost: Mapping[str, str]) -> str:
    """Runs that were given up, with each reason once."""
    if len(lost) == 1:
        name, reason = next(iter(lost.items()))
        return f"Run {name} crashed at every attempt: {reason}"
    names: dict[str, list[str]] = defaultdict(list)
    for name, reason in lost.items():
        names[reason.replace(name, "the run")].append(name)
    said = [f"{_named(group)}: {reason}" for reason, group in names.items()]
    return f"{len(lost)} runs crashed at every attempt. {' '.join(said)}"


def _named(names: Sequence[str]) -> str:
    return f"{', '.join(names[:5])} and {len(names) - 5} more" if len(names) > 5 else ", ".join(names)


def _reasons(folder: Path) -> list[str]:
    return list(read_json(folder / _REASONS)) if (folder / _REASONS).is_file() else []


def _remember(folder: Path, reason: str) -> None:
    write_json(folder / _REASONS, [*_reasons(folder), reason])
