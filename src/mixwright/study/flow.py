"""The whole picture as code: the file a newcomer reads first.

    sources -> curate -> tokenize -> design -> sweep -> fit -> optimize -> verify -> branch -> export -> report

Every stage is a method of ``Flow`` that gives an artifact. Its key is the hash of its own settings and the keys of the
stages before it, so it can be known before anything runs; a stage whose key is on disk is not run again. Single
trainings are artifacts of their own, shared by every stage that wants the same run.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.corpus import Corpus
from mixwright.core.errors import DataError, RunsFailedError, StudyError
from mixwright.core.find import find
from mixwright.core.mixture import Mixture
from mixwright.core.observation import DONE, Runs
from mixwright.core.recipe import Recipe
from mixwright.core.rng import rng
from mixwright.core.run import ModelSize, Run
from mixwright.core.schedule import Schedule
from mixwright.engine.task import Engine
from mixwright.engine.threads import one_thread
from mixwright.laws import GraphFit, load_fit
from mixwright.laws.reuse import Combined
from mixwright.store.artifact import Artifact, Draft, Workspace, content_key, file_hash, write_atomic, write_json
from mixwright.store.runs import RunTable
from mixwright.study import publish, scales, verdict
from mixwright.study.config import EngineOptions, Study, TableFile, settings
from mixwright.study.listener import Listener, StageEnd
from mixwright.study.trainings import Trainings

#: raise the number of a stage whose meaning changes, so that old artifacts are not taken for new ones
VERSIONS = {
    "curate": 2, "tokenize": 1, "design": 2, "sweep": 1, "fit": 2, "optimize": 2, "verify": 2, "branch": 1,
    "export": 1, "report": 2,
}  # fmt: skip

#: options of curation that change how it works, and nothing of what comes out
_ELSEWHERE = ("memory", "text_copy")

WHAT = {
    "curate": "read, measure, decide, dedup; a ledger line for every dropped row",
    "tokenize": "train the tokenizer, encode, hold out validation documents",
    "design": "choose the mixtures to try",
    "sweep": "train one small model per mixture",
    "fit": "fit the laws, test them on runs they have not seen",
    "optimize": "find the best mixture under the constraints",
    "verify": "train larger models on the natural, uniform, guessed and optimized mixture",
    "branch": "from one checkpoint: go on, or switch to the upsampled mixture",
    "export": "write the recipe in the trainers' own words",
    "report": "write the page",
}


@dataclass(frozen=True)
class Step:
    """One line of a plan: a stage, its key, whether it is done, and what the rest of it costs in CPU-seconds."""

    stage: str
    key: str
    done: bool
    cpu_seconds: float
    detail: str = ""


def engine_of(options: EngineOptions, folder: Path) -> Engine:
    """Where a study's tasks run; their files lie in ``folder``."""
    from mixwright.engine.local import LocalEngine

    if options.kind == "local":
        return LocalEngine(options.workers)
    from mixwright.engine.ray import RayEngine

    return RayEngine(options.address, options.workers, folder)


class Flow:
    """A study on its way: stages that find or make their artifacts.

    ``root`` is the study's folder; artifacts lie in ``root/work``, results at the top.
    """

    def __init__(self, study: Study, *, listener: Listener | None = None, engine: Engine | None = None) -> None:
        self.study = study
        self.listener = listener or Listener()
        self.engine = engine or engine_of(study.engine, study.folder / "work")
        self.root = study.folder
        self.workspace = Workspace(study.folder / "work")
        self.trainings = Trainings(self)
        self._made: dict[str, Artifact] = {}
        self._keys: dict[str, str] = {}

    # ---- what runs, in which order -----------------------------------------------------------------------------

    @cached_property
    def stages(self) -> tuple[str, ...]:
        """The stages this study has, in order."""
        if self.study.runs is not None:
            return ("fit", "optimize", "export", "report")
        parts = ["curate", "tokenize", "design", "sweep", "fit", "optimize"]
        parts += ["verify"] if self.study.verify else []
        parts += ["branch"] if self.study.final_phase else []
        return (*parts, "export", "report")

    def upstream(self, stage: str) -> tuple[str, ...]:
        """The stages whose artifacts a stage reads directly."""
        table = self.study.runs is not None
        inputs = {
            "curate": (),
            "tokenize": ("curate",),
            "design": ("tokenize",),
            "sweep": ("design", "tokenize"),
            "fit": () if table else ("sweep",),
            "optimize": ("fit",) if table else ("fit", "tokenize"),
            "verify": ("optimize", "tokenize"),
            "branch": ("optimize", "tokenize", *(("verify",) if self.study.verify else ())),
            "export": tuple(s for s in ("optimize", "verify", "branch", "tokenize") if s in self.stages),
            "report": tuple(s for s in self.stages if s != "report"),
        }
        return inputs[stage]

    def run(self) -> Artifact:
        """Every stage in order; returns the report's artifact. Raises what the stages raise; finished work is kept."""
        with self.workspace.lock():
            for sentence in publish.changes(self):
                self.listener.note(sentence)
            for stage in self.stages:
                artifact = self.make(stage)
            publish.remember(self)
            return artifact

    def make(self, stage: str) -> Artifact:
        """The artifact of a stage, made now if it is not there; stages before it are made first."""
        if stage in self._made:
            return self._made[stage]
        if stage not in self.stages:
            why = "it starts from a table of runs" if self.study.runs else f"its {stage} section is empty"
            raise StudyError(f"This study has no stage {stage!r}: {why}. It has: {', '.join(self.stages)}.")
        for before in self.upstream(stage):
            self.make(before)
        begun = time.monotonic()
        found = self.workspace.find(stage, self.key(stage))
        artifact = found or self._build(stage)
        self._made[stage] = artifact
        shown = publish.results(self, stage, artifact)
        self.listener.end(StageEnd(stage, found is not None, time.monotonic() - begun, shown))
        return artifact

    def is_made(self, stage: str) -> bool:
        """Whether the stage's artifact has been found or made by this flow."""
        return stage in self._made

    def _build(self, stage: str) -> Artifact:
        begun, draft = time.monotonic(), self.workspace.draft(stage, self.key(stage))
        self.listener.begin(stage, WHAT[stage], self._tasks(stage))
        try:
            info = getattr(self, f"_{stage}")(draft) or {}
        finally:
            self.listener.close()
        inputs = {before: self.make(before).key for before in self.upstream(stage)}
        return draft.seal(
            settings=self.settings(stage), inputs=inputs, info=info | {"seconds": round(time.monotonic() - begun, 2)}
        )

    # ---- keys and costs ----------------------------------------------------------------------------------------

    def key(self, stage: str) -> str:
        """The hash of everything the stage depends on; known before anything has run."""
        if stage not in self._keys:
            before = {s: self.key(s) for s in self.upstream(stage)}
            self._keys[stage] = content_key(VERSIONS[stage], self.settings(stage), before)
        return self._keys[stage]

    def settings(self, stage: str) -> dict[str, Any]:
        """The settings a stage depends on itself, as plain values."""
        s = self.study
        if stage == "curate":
            return {
                "order": [
                    *s.sources,
                    *s.targets,
                ],  # of duplicates, the first source's stays; mappings forget their order
                "sources": {n: settings(o) for n, o in s.sources.items()},
                "targets": {n: settings(o) for n, o in s.targets.items()},
                "files": self._files,
                "curate": {k: v for k, v in settings(s.curate).items() if k not in _ELSEWHERE},
                "signals": self._measuring["signals"],  # what the files they name hold
            }
        if stage == "fit":
            table = {"runs": settings(s.runs), "file": self._table_hash} if s.runs else {}
            weights = {"objective": {"metrics": dict(s.objective.metrics)}}
            target = (
                {"target": {"tokens": s.budget.tokens, "params": s.budget.params}} if s.law.form == "nested" else {}
            )
            return {"law": settings(s.law), "seed": s.seed, **weights, **table, **target}
        from mixwright.text.tokenizer import fingerprint

        trainer = {"trainer": s.trainer.identity()}
        large = trainer | {"match": s.proxy.match_repetition, "seed": s.seed}
        chosen: dict[str, dict[str, Any]] = {
            "tokenize": {"tokenizer": settings(s.tokenizer), "file": fingerprint(s.tokenizer, self.root)},
            "design": {
                "design": settings(s.design), "proxy": settings(s.proxy), "seed": s.seed,
                "objective": {k: v for k, v in settings(s.objective).items() if k not in ("metrics", "over_cap")},
                "budget": {"tokens": s.budget.tokens},
            } | (trainer if s.trainer.mixtures(s.domains) is not None else {}),
            "sweep": trainer,
            "optimize": {
                "objective": {k: v for k, v in settings(s.objective).items() if k != "over_cap"}, "current": s.current,
                "guess": s.verify.guess if s.verify else None,
                "budget": {"tokens": s.budget.tokens, "params": s.budget.params},
            },
            "verify": large | {"verify": settings(s.verify), "kept": settings(s.final_phase).get("start")},
            "branch": large | {"final_phase": settings(s.final_phase)},
            "export": {
                "export": list(s.export), "budget": settings(s.budget), "batch": self.batch,
                "root": str(self.root.resolve()),  # the files name the tokens by their place
            },
            "report": {"title": s.title, "study": s.text},
        }  # fmt: skip
        return chosen[stage]

    @cached_property
    def _files(self) -> dict[str, str]:
        from mixwright.curate.pipeline import fingerprint

        both = {**self.study.sources, **{f"target:{n}": o for n, o in self.study.targets.items()}}
        return {name: fingerprint(options, self.root) for name, options in both.items()}

    @cached_property
    def _measuring(self) -> dict[str, Any]:
        """What measuring depends on beside the files of sources and targets."""
        from mixwright.curate.pipeline import measuring_key

        return {k: v for k, v in measuring_key(self.study.curate, self.root).items() if k not in _ELSEWHERE}

    @cached_property
    def _table_hash(self) -> list[str]:
        assert self.study.runs is not None
        paths = [self.root / path for path in self.study.runs.paths]
        for path in paths:
            if not path.is_file():
                raise DataError(
                    f"There is no table of runs at {path}. Set runs.path in the study, or give --runs FILE."
                )
        return [file_hash(path) for path in paths]

    def plan(self) -> list[Step]:
        """What ``run`` would do: every stage with its key, whether it is done, and the CPU-seconds still to spend."""
        steps = []
        for stage in self.stages:
            done = self.workspace.find(stage, self.key(stage)) is not None
            cost, detail = (0.0, "") if done else self._estimate(stage)
            steps.append(Step(stage, self.key(stage), done, cost, detail))
        return steps

    def _estimate(self, stage: str) -> tuple[float, str]:
        """CPU-seconds a stage still needs, and what it counts."""
        count, size, tokens = 0, "", 0
        if stage == "sweep":
            count, size, tokens = (
                self.study.design.runs + self.study.design.repeats,
                self.study.proxy.sizes[0],
                self.study.proxy.tokens,
            )
        elif stage == "verify" and self.study.verify:
            count = self.study.verify.seeds * (3 + (self.study.verify.guess is not None))
            size, tokens = self.study.verify.size, self.study.verify.tokens
        elif stage == "branch" and self.study.final_phase:
            size, tokens = self.trainings.large
            seeds = self.study.verify.seeds if self.study.verify else 1
            rest = 1 - self.study.final_phase.start
            part = rest * (1 + (self.study.final_phase.rate == "anneal")) + (not self.study.verify)
            return seeds * part * self._cost(size, tokens), f"{seeds} branches of {size} runs"
        if count:
            return count * self._cost(size, tokens), f"{count} runs of {size}, {tokens:,} tokens each"
        if stage == "fit":
            return self._cost_of_fit()
        if stage == "curate":
            return sum(self._tasks(stage).values()), ""
        return {"tokenize": 15.0}.get(stage, 1.0), ""

    def _cost_of_fit(self) -> tuple[float, str]:
        """CPU-seconds of the fit stage, and what it fits."""
        s = self.study
        if s.runs is None:
            shape = (s.design.runs + s.design.repeats, len(s.domains), len(s.metrics))
        else:
            shape = (len(self.fitted_on), len(self.fitted_on.domains), len(self.fitted_on.metrics))
        laws = " and ".join(s.law.candidates)
        return scales.cost_of_fit(s.law, *shape), f"{laws} to {shape[0]} rows, {shape[1]} domains, {shape[2]} metrics"

    def _cost(self, size: str, tokens: int) -> float:
        schedule = Schedule.constant(Mixture.uniform(self.study.domains), tokens)
        return self._cost_of_run(Run("cost", schedule, ModelSize.parse(size)))

    def _cost_of_run(self, run: Run) -> float:
        """CPU-seconds, by what runs like it took in this workspace, else by the trainer's estimate."""
        from mixwright.train.costs import Costs

        return Costs.of(self.workspace).cpu_seconds(self.study.trainer, run)

    def _tasks(self, stage: str) -> dict[str, float]:
        if stage == "curate":
            from mixwright.curate.pipeline import estimate

            return estimate(self.study.sources, self.study.targets, self.study.curate, self.root)
        if stage == "fit":
            return {"cross-validation": self._cost_of_fit()[0]}
        wanted = self.trainings
        runs = {"sweep": wanted.of_sweep, "verify": wanted.of_verify, "branch": wanted.of_branch}.get(stage)
        return {run.run_id: self._cost_of_run(run) for run in runs()} if runs else {}

    # ---- nouns the artifacts hold ------------------------------------------------------------------------------

    @cached_property
    def corpus(self) -> Corpus:
        """The domains after tokenizing."""
        return Corpus.from_dict(self.make("tokenize").json("corpus.json"))

    @cached_property
    def reference(self) -> tuple[str, Mixture]:
        """What everything is compared with: the natural mixture, or the study's ``current`` one."""
        domains = self.table.domains if self.study.runs else self.corpus.names
        if self.study.current is not None:
            return "current", self.study.mixture(self.study.current, domains, "current")
        if self.study.runs:
            return "mean", Mixture.normalized(domains, self.table.mixtures().mean(axis=0))
        return "natural", self.corpus.natural()

    @cached_property
    def table(self) -> Runs:
        """The runs a fit is made on, each at its last moment, failed ones included, over the domains of today."""
        if self.study.runs is None:
            return self._observed("sweep")
        return self._tables[0].over_today().last()

    @cached_property
    def fitted_on(self) -> Runs:
        """The same runs as laws see them: all moments where the law knows them, earlier versions of domains apart."""
        return self._tables[0].runs if self.study.runs else self.table

    @cached_property
    def _tables(self) -> tuple[Combined, tuple[str, ...]]:
        """The user's own tables, and what reading them had to say."""
        from mixwright.laws.reuse import combined

        options = self.study.runs
        assert options is not None
        new, older = self._read(options, own=options.own), [self._read(table) for table in options.older]
        both = combined(new.runs, [(read.runs, o.changes) for read, o in zip(older, options.older, strict=True)])
        return both, (*new.notes, *(note for read in older for note in read.notes), *both.notes)

    def _read(self, options: TableFile, own: Mapping[str, str | Sequence[str]] | None = None) -> RunTable:
        from mixwright.store.runs import read_runs

        return read_runs(
            self.root / options.path, metrics_path=self.root / options.metrics if options.metrics else None,
            weights=options.weights, losses=options.losses, columns=options.columns, units=options.units, own=own,
            tokens_per_step=options.tokens_per_step, step=options.step,
            every_step=self.study.law.form in ("nested", "joint") and options.step is None,
        )  # fmt: skip

    @cached_property
    def metric_weights(self) -> dict[str, float]:
        """The objective's metrics with their weights, summing to one."""
        metrics = self.table.metrics if self.study.runs else self.study.metrics
        weights = self.study.metric_weights(metrics)
        total = sum(weights.values())
        return {name: weight / total for name, weight in weights.items()}

    @cached_property
    def supply(self) -> dict[str, int]:
        """The unique tokens of every domain; empty where they are unknown."""
        if self.study.runs is None:
            return {domain.name: domain.tokens for domain in self.corpus.domains}
        return scales.checked_supply(self.study.runs.supply, self.table.domains)

    @cached_property
    def unbound_fit(self) -> GraphFit:
        """The fitted laws as they are, over tokens and params where they know these."""
        return load_fit(self.make("fit").json("fit.json"))

    @cached_property
    def law_fit(self) -> GraphFit:
        """The fitted laws at the target's tokens and params, as if no token were seen twice."""
        fit = self.unbound_fit
        return fit.at(tokens=self.target.tokens, params=self.target.params) if fit.graph.free else fit

    @cached_property
    def target(self) -> scales.Target:
        """The tokens and params that predictions hold for: the budget's for laws that span them, else the runs' own."""
        if self.study.law.form in ("nested", "joint"):
            return scales.target(self.study.budget, self.fitted_on)
        fitted = set(self.unbound_fit.run_id)
        return scales.shared(self.table.take([name in fitted for name in self.table.run_id]))

    @property
    def matches_repetition(self) -> bool:
        """Whether runs repeat their domains as often as the run of the budget will."""
        return self.study.runs is None and self.study.proxy.match_repetition

    def repeating(self, tokens: float | None) -> GraphFit:
        """``law_fit`` for a training of so many tokens from the supply: repeats count for less, if the study says so.

        Runs that repeat as the budget's run does have taught the law what repetition costs: there it is ``law_fit``.
        """
        if self.matches_repetition:
            return self.law_fit
        if not scales.counts_repeats(self.study.law.repetition, tokens, self.supply):
            return self.law_fit
        assert tokens is not None
        return scales.repeating(self.law_fit, tokens, self.supply)

    @cached_property
    def recipe(self) -> Recipe:
        """The answer as ``optimize`` gave it."""
        return Recipe.from_dict(self.make("optimize").json("recipe.json"))

    @property
    def optimized(self) -> Mixture:
        """The best mixture found."""
        return self.recipe.schedule.phases[0].mixture

    @property
    def budget_tokens(self) -> int | None:
        """Training tokens of the run the recipe is for."""
        if self.study.budget.tokens is not None:
            return self.study.budget.tokens
        if self.study.runs:
            known = self.target.tokens if self.study.law.form in ("nested", "joint") else None
            return int(known) if known is not None else None
        return int(self.corpus.supply.sum())

    @property
    def batch(self) -> dict[str, int]:
        """``seq_len`` and ``batch`` of the run the recipe is for: the budget's, else the trainer's."""
        budget, trainer = self.study.budget, self.study.trainer
        seq_len: int = getattr(trainer, "seq_len", 2048)
        batch: int = getattr(trainer, "batch", 1)
        return {"seq_len": budget.seq_len or seq_len, "batch": budget.batch or batch}

    # ---- the stages --------------------------------------------------------------------------------------------

    def _curate(self, draft: Draft) -> dict[str, Any]:
        from mixwright.curate.pipeline import decide_and_write

        measured, s = self.measured(keep_texts=True), self.study
        summary = decide_and_write(
            measured.path, s.sources, s.targets, s.curate, base=self.root, draft=draft, engine=self.engine,
            on_progress=self.listener.progress, copies=self._texts / measured.key,
        )  # fmt: skip
        kept = {name: row["kept"]["documents"] for name, row in summary["sources"].items()}
        return {"kept": kept, "measured": measured.key}

    @property
    def _texts(self) -> Path:
        """Where texts are copied to until they are written."""
        return self.workspace.root / ".texts"

    def measured(self, *, keep_texts: bool = False) -> Artifact:
        """What curation measured of every row: an artifact that no threshold is part of, made now if it is not there.

        ``keep_texts``: a copy of the texts that is made beside it may stay, as they are written next.
        """
        from mixwright.curate.pipeline import measure

        s = self.study
        told = self.settings("curate") | {"curate": self._measuring}
        key = content_key(VERSIONS["curate"], told, {})
        if (found := self.workspace.find("measure", key)) is not None:
            return found
        begun, draft = time.monotonic(), self.workspace.draft("measure", key)
        for stale in self._texts.glob("*"):
            if stale.name != key:
                shutil.rmtree(stale)
        measure(
            s.sources, s.targets, s.curate, base=self.root, folder=draft.path, engine=self.engine,
            on_progress=self.listener.progress, cache=self.workspace.root / "scores", copies=self._texts / key,
        )  # fmt: skip
        if not keep_texts:
            shutil.rmtree(self._texts, ignore_errors=True)
        return draft.seal(settings=told, inputs={}, info={"seconds": round(time.monotonic() - begun, 2)})

    def _tokenize(self, draft: Draft) -> dict[str, Any]:
        from mixwright.text.tokenize import tokenize

        corpus = tokenize(
            self.make("curate").path, self.study.tokenizer, draft=draft, engine=self.engine,
            on_progress=self.listener.progress, seq_len=getattr(self.study.trainer, "seq_len", 128), base=self.root,
        )  # fmt: skip
        return {"tokens": {domain.name: domain.tokens for domain in corpus.domains}}

    def _design(self, draft: Draft) -> dict[str, Any]:
        from mixwright.optimize.design import design

        listed = self.study.trainer.mixtures(self.corpus.names)
        mixtures = self.trainings.some_of(listed) if listed is not None else design(
            self.corpus.natural(), objective=self.study.objective.over(self.corpus.names), tokens=self.budget_tokens,
            supply=self.corpus.supply, options=self.study.design, rng=rng(self.study.seed, "design"),
        )  # fmt: skip
        runs = self.trainings.of_design(mixtures)
        write_json(draft.path / "runs.json", [run.to_dict() for run in runs])
        return {"runs": len(runs)}

    def _sweep(self, draft: Draft) -> dict[str, Any]:
        from mixwright.store.runs import write_runs

        runs = self.trainings.of_sweep()
        self.trainings.train(runs, draft)
        table = self._observed(draft.path)
        write_runs(draft.path / "runs.parquet", table)
        usable, wanted = len(table.usable()), len(self.corpus.domains) + 2
        if usable < wanted:
            failed = [(i, o) for i, o in zip(table.run_id, table.status, strict=True) if o != DONE]
            raise RunsFailedError(
                f"Only {usable} of {len(table)} runs ended well, too few for {len(self.corpus.domains)} domains (at least "
                f"{wanted}); {failed[0][0]} and {len(failed) - 1} others failed. Lower trainer.lr and run again."
            )
        return {"runs": len(runs), "failed": len(table) - usable}

    def _observed(self, stage: str | Path) -> Runs:
        from mixwright.core.observation import Observation

        path = stage if isinstance(stage, Path) else self.make(stage).path
        from mixwright.store.artifact import read_json

        return Runs.from_observations(Observation.from_dict(v) for v in read_json(path / "observations.json"))

    @one_thread
    def _fit(self, draft: Draft) -> dict[str, Any]:
        from mixwright.laws.validation import fit_chosen, held_out, validate

        notes = list(self._tables[1] if self.study.runs else ())
        usable = self.fitted_on.usable()
        if self.matches_repetition:
            notes += self.trainings.about_repetition()
        elif self.study.law.repetition is not False:
            usable, said = scales.as_unrepeated(usable, self.supply)
            notes += said
        weights = np.array([self.metric_weights.get(m, 0.0) for m in usable.metrics])
        law = self.study.law
        if law.spans:
            spanning, stream = scales.law(law, self.study.budget), partial(rng, self.study.seed, "fit")
            fit = spanning.fit(usable, stream())
            validation = held_out(fit, spanning.scored(usable, stream()), weights)
        else:
            validation = validate(
                usable, laws=law.candidates, metric_weights=weights, folds=law.folds, repeats=law.repeats,
                rng=rng(self.study.seed, "validate"),
                on_progress=lambda fraction: self.listener.progress("cross-validation", fraction, {}),
            )  # fmt: skip
            fit = fit_chosen(usable, validation.chosen, rng=rng(self.study.seed, "fit"))
        fit = self._tables[0].today(fit) if self.study.runs else fit
        write_json(draft.path / "fit.json", fit.to_dict())
        write_json(
            draft.path / "validation.json",
            {
                "scores": validation.scores, "chosen": validation.chosen, "held_out": validation.held_out,
                "folds": validation.folds, "repeats": validation.repeats, "notes": [*notes, *validation.notes],
                "method": validation.method, "runs": len(set(usable.run_id)),
            },
        )  # fmt: skip
        return {"chosen": dict(validation.chosen)}

    @one_thread
    def _optimize(self, draft: Draft) -> dict[str, Any]:
        from mixwright.optimize.mixture import optimize

        reference = self.reference[1]
        objective = replace(self.study.objective.over(reference.domains), metrics=self.metric_weights)
        priors = {"natural": self.corpus.natural()} if self.study.runs is None else {}
        supply = self.supplies  # in the order of the fit's domains, which is its own
        guess = self.study.verify.guess if self.study.verify else None
        others = {"guess": self.study.mixture(guess, reference.domains, "verify.guess")} if guess is not None else {}
        tokens = self.budget_tokens
        fit = self.repeating(tokens)
        search = partial(
            optimize,
            objective=objective,
            natural=reference,
            tokens=tokens,
            supply=supply,
            alternatives=others,
            priors=priors,
        )
        best = search(fit)
        if fit is not self.law_fit:
            best = replace(best, notes=(*best.notes, *scales.what_repeats_changed(best, search(self.law_fit))))
        write_json(draft.path / "recipe.json", publish.recipe(self, best, objective).to_dict())
        write_json(draft.path / "optimum.json", publish.optimum_values(best))
        return {"weights": best.mixture.to_dict()}

    @property
    def supplies(self) -> NDArray[np.float64] | None:
        """The unique tokens of the fit's domains, in their order; None where they are unknown."""
        if not self.supply:
            return None
        return np.array([float(self.supply[name]) for name in self.law_fit.domains])

    def mixtures(self) -> dict[str, Mixture]:
        """The mixtures that are compared: the reference first, then uniform, the guess, the optimized."""
        name, reference = self.reference
        found = {name: reference, "uniform": Mixture.uniform(reference.domains)}
        if self.study.verify and self.study.verify.guess is not None:
            found["guess"] = self.study.mixture(self.study.verify.guess, reference.domains, "verify.guess")
        return found | {"optimized": self.optimized}

    def _verify(self, draft: Draft) -> dict[str, Any]:
        assert self.study.verify is not None
        runs = self.trainings.of_verify()
        trained = self.trainings.train(runs, draft, self.trainings.kept())
        names = list(self.mixtures())
        usable = {
            n: [
                t
                for i in range(self.study.verify.seeds)
                if (t := trained[f"verify-{n}-{i}"]).observation.status == DONE
            ]
            for n in names
        }
        lost = [name for name, group in usable.items() if not group]
        if lost:
            raise RunsFailedError(
                f"Every run of {', '.join(lost)} diverged at {self.trainings.large[0]}. Lower trainer.lr and run again."
            )
        weights = np.array([self.metric_weights.get(m, 0.0) for m in self.law_fit.metrics])
        noise = self.law_fit.seed_noise(weights)
        section = verdict.compare(
            usable,
            self.mixtures(),
            names[0],
            self.metric_weights,
            self.repeating(self.trainings.large[1]),
            fallback_noise=noise,
        )
        size, tokens = self.trainings.large
        section |= {
            "size": size,
            "params": ModelSize.parse(size).params,
            "tokens": tokens,
            "seeds": list(range(self.study.verify.seeds)),
        }
        write_json(draft.path / "verify.json", section)
        return {"runs": len(runs)}

    def _branch(self, draft: Draft) -> dict[str, Any]:
        assert self.study.final_phase is not None
        runs = self.trainings.of_branch()
        trained = self.trainings.train(runs, draft, self.trainings.kept())
        seeds = len(self.trainings.kept())
        ended = [trained[run.run_id] for run in runs[-2 * seeds :]]
        pairs = list(zip(ended[:seeds], ended[seeds:], strict=True))
        usable = [pair for pair in pairs if all(t.observation.status == DONE for t in pair)]
        if not usable:
            reason = next(t.observation.reason for t in ended if t.observation.status != DONE)
            raise RunsFailedError(f"Every branch or its base diverged ({reason}). Lower trainer.lr and run again.")
        noise = self.make("verify").json("verify.json")["noise"] if self.study.verify else {}
        if not any(value is not None for value in noise.values()):
            known = zip(self.law_fit.metrics, self.law_fit.noise, strict=True)
            noise = {metric: float(sd) for metric, sd in known if np.isfinite(sd)}
        base, upsampled = runs[0], runs[-1]
        section = {
            "start": self.study.final_phase.start,
            "size": str(base.size),
            "tokens": base.schedule.tokens,
            "switch_tokens": upsampled.parent_tokens,
            "seeds": len(usable),
            "base": base.schedule.phases[0].mixture.weights.tolist(),
            "weights": upsampled.schedule.phases[-1].mixture.weights.tolist(),
            "rows": verdict.final_phase_rows(usable, noise, self.metric_weights),
            "trajectories": [
                {"branch": label, "points": verdict.objective_points(t.trajectory, self.metric_weights)}
                for label, t in zip(("continued", "upsampled"), usable[0], strict=True)
            ],
        }
        write_json(draft.path / "final_phase.json", section)
        return {}

    def _export(self, draft: Draft) -> dict[str, Any]:
        recipes = publish.recipes(self)
        root = str(self.make("tokenize").path.resolve()) if self.study.runs is None else None
        for name in self.study.export:
            exporter = find("export", name)()
            for label, recipe in recipes.items():
                files = exporter.files(recipe, tokens_root=root, **self.batch)
                for file, content in files.items():
                    write_atomic(draft.path / name.replace(":", ".") / label / file, content)
        return {"exporters": list(self.study.export)}

    def _report(self, draft: Draft) -> dict[str, Any]:
        from mixwright.report.page import write_page
        from mixwright.study.report_data import report_data

        data = report_data(self)
        write_json(draft.path / "report.json", data)
        write_page(data, draft.path / "report.html")
        return {}
