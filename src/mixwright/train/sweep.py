"""The sweep: every run that is wanted, each trained once, whatever stops it on the way.

A finished run is an artifact ``runs/<key>/`` whose key is the hash of all that decides its outcome: schedule, size,
seed, trainer and settings, tokens, parent, checkpoints, and ``CODE_VERSION``; the run's name and role are not part of
it, so equal trainings with different names are one. A run that met NaN is an artifact too, with status ``failed``. A
crashed process leaves a partial folder that the next attempt goes on from, and never counts as done.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

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
from mixwright.engine.task import Engine, Outcome
from mixwright.store.artifact import Artifact, Draft, Workspace, content_key
from mixwright.stream.order import ORDER_VERSION
from mixwright.train.trainer import OBSERVATION, Trainer, write_results

VERB = "runs"
#: Raised whenever the same run would come out different, so that old results are not taken for new ones.
CODE_VERSION = 1
#: How often a run whose process crashed is begun again within one sweep.
_RETRIES = 1
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
) -> list[Finished]:
    """Train all ``runs`` (dearest first, as many at once as the engine has slots); gives them in their order.

    ``checkpoints`` maps run ids to the training tokens at which to keep one; a parent whose branch is in ``runs`` keeps
    the branch's by itself. Runs whose artifact is there are found, not trained. ``on_progress(run id, fraction,
    facts)`` hears of every run, ``on_done`` of each that ended. Raises StudyError for a branch whose parent is not in
    ``runs``; RunsFailedError, when all others are done, if a process crashed again at its second attempt; Interrupted
    on Ctrl-C; and the errors of tasks that a user can act on. What was finished before is kept in every case.
    """
    wanted = _Wanted.of(runs, trainer, corpus, checkpoints or {})
    work = _Sweep(wanted, trainer, workspace, corpus, engine, on_progress, on_done)
    try:
        for wave in wanted.waves():
            work.train(wave)
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

    def waves(self) -> list[list[Run]]:
        """The runs in groups, parents in an earlier group than their branches."""
        left, waves = dict(self.runs), []
        placed: set[str | None] = {None}
        while left:
            wave = [run for run in left.values() if run.parent in placed]
            waves.append(wave)
            for run in wave:
                del left[run.run_id]
            placed |= {run.run_id for run in wave}
        return waves


class _Sweep:
    """A sweep under way; ``done`` holds the finished runs by name."""

    def __init__(
        self,
        wanted: _Wanted,
        trainer: Trainer,
        workspace: Workspace,
        corpus: Artifact | None,
        engine: Engine,
        on_progress: Callable[[str, float, dict[str, Any]], None] | None,
        on_done: Callable[[Finished], None] | None,
    ) -> None:
        self.wanted, self.trainer, self.workspace, self.corpus = wanted, trainer, workspace, corpus
        self.engine, self.on_progress, self.on_done = engine, on_progress, on_done
        self.done: dict[str, Finished] = {}

    def train(self, wave: Sequence[Run]) -> None:
        """Find or train the runs of one wave; parents are done."""
        same: dict[str, list[Run]] = {}
        for run in wave:
            same.setdefault(self.wanted.keys[run.run_id], []).append(run)
        left = {}
        for key, group in same.items():
            artifact = self._there(key, group[0])
            if artifact is None:
                left[group[0].run_id] = key
            else:
                self._finish(group, artifact)
        reasons: dict[str, str] = {}
        for _ in range(1 + _RETRIES):
            reasons = self._attempt(left, same)
            left = {name: left[name] for name in reasons}
            if not left:
                return
        name, reason = next(iter(reasons.items()))
        others = f" So did {len(reasons) - 1} other runs." if len(reasons) > 1 else ""
        raise RunsFailedError(
            f"Run {name} crashed at both attempts: {reason}{others} Finished runs are kept; the same command tries these again."
        )

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
        return self._seal(draft, run) if (draft.path / OBSERVATION).is_file() else None

    def _attempt(self, left: Mapping[str, str], same: Mapping[str, Sequence[Run]]) -> dict[str, str]:
        """Train the runs in ``left`` (name -> key); gives the reasons of those that crashed."""
        tasks = []
        for name, key in left.items():
            run = self.wanted.runs[name]
            tasks.append(
                self.trainer.task(
                    run,
                    corpus=None if self.corpus is None else self.corpus.path,
                    out=self.workspace.draft(VERB, key).path,
                    checkpoints=self.wanted.keep[name],
                    parent=None if run.parent is None else self.done[run.parent].artifact.path,
                )
            )
        crashed: dict[str, str] = {}
        outcomes = cast("Generator[Outcome, None, None]", self.engine.run(tasks, self.on_progress))
        with contextlib.closing(outcomes):  # stops what is running, however this ends
            for outcome in outcomes:
                name = outcome.task.name
                if outcome.error is None:
                    draft = self.workspace.draft(VERB, left[name])
                    self._finish(same[left[name]], self._seal(draft, self.wanted.runs[name]))
                elif outcome.kind in _ERRORS:
                    raise _ERRORS[outcome.kind](f"Run {name}: {outcome.error}")
                else:
                    crashed[name] = outcome.error
        return crashed

    def _seal(self, draft: Draft, run: Run) -> Artifact:
        inputs = {} if self.corpus is None else {"tokenize": self.corpus.key}
        if run.parent is not None:
            inputs["parent"] = self.done[run.parent].artifact.key
        return draft.seal(
            settings={"run": run.to_dict(), "keep": self.wanted.keep[run.run_id], **self.trainer.identity()},
            inputs=inputs,
        )

    def _finish(self, group: Sequence[Run], artifact: Artifact) -> None:
        measured = Observation.from_dict(artifact.json(OBSERVATION))
        for run in group:
            finished = Finished(run, artifact, replace(measured, run=run))
            self.done[run.run_id] = finished
            if self.on_progress is not None:
                self.on_progress(run.run_id, 1.0, {"status": measured.status})
            if self.on_done is not None:
                self.on_done(finished)
