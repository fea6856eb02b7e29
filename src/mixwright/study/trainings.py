"""Which runs a study wants, how they repeat their domains, and training them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mixwright.core.mixture import Mixture
from mixwright.core.observation import DONE
from mixwright.core.rng import derive_seed, rng
from mixwright.core.run import ModelSize, Run
from mixwright.core.schedule import Schedule
from mixwright.engine.task import Engine
from mixwright.store.artifact import Draft, write_json
from mixwright.study import epochs, verdict

if TYPE_CHECKING:
    from mixwright.study.flow import Flow
    from mixwright.train.logs import RunLogs
    from mixwright.train.sweep import Finished


class Trainings:
    """The runs of a study's stages. Runs that are the same training are trained once, whatever stage wants them."""

    def __init__(self, flow: Flow) -> None:
        self._flow, self._study = flow, flow.study

    def seed(self, purpose: str, number: int) -> int:
        """The seed of a run."""
        return derive_seed(self._study.seed, purpose, number) % 2**31

    def subsample(self, tokens: int) -> float:
        """The fraction of every domain that a run of so many tokens draws from, so that it repeats like the budget's run."""
        flow = self._flow
        if not flow.matches_repetition or flow.budget_tokens is None:
            return 1.0
        return min(1.0, tokens / flow.budget_tokens)

    def about_repetition(self) -> list[str]:
        """How the proxies repeat their domains, in a sentence; none where they draw from everything."""
        part = self.subsample(self._study.proxy.tokens)
        if part >= 1:
            return []
        return [
            f"Every proxy drew from {part:.2%} of each domain's unique tokens, so that it repeats a domain as often as the run "
            f"of {self._flow.budget_tokens:,} tokens will; what repetition costs is in these losses."
        ]

    # ---- which runs --------------------------------------------------------------------------------------------

    def of_design(self, mixtures: Sequence[Mixture]) -> list[Run]:
        """One proxy per mixture, and the first mixture again with other seeds."""
        size, tokens = ModelSize.parse(self._study.proxy.sizes[0]), self._study.proxy.tokens
        seeds = [(mixture, f"design-{n:03d}", 0, "design") for n, mixture in enumerate(mixtures)]
        seeds += [(mixtures[0], f"repeat-{n}", n, "repeat") for n in range(1, self._study.design.repeats + 1)]
        return [self._run(name, mixture, tokens, size, self.seed("sweep", n), role) for mixture, name, n, role in seeds]

    def some_of(self, mixtures: Sequence[Mixture]) -> list[Mixture]:
        """``design.runs`` of the mixtures that a trainer lists; the study's seed says which."""
        order = rng(self._study.seed, "design").permutation(len(mixtures))
        return [mixtures[n] for n in sorted(order[: self._study.design.runs].tolist())]

    def of_sweep(self) -> list[Run]:
        """The runs the design asks for."""
        return [Run.from_dict(values) for values in self._flow.make("design").json("runs.json")]

    @property
    def large(self) -> tuple[str, int]:
        """Size and tokens of the runs that verify and branch."""
        if self._study.verify:
            return self._study.verify.size, self._study.verify.tokens
        return self._study.proxy.sizes[0], self._study.proxy.tokens

    def of_verify(self) -> list[Run]:
        """Every mixture at the larger size, once per seed."""
        assert self._study.verify is not None
        return [
            self._verifying(name, mixture, n)
            for n in range(self._study.verify.seeds)
            for name, mixture in self._flow.mixtures().items()
        ]

    def of_branch(self) -> list[Run]:
        """The reference runs, then those that go on as before, then the branch of each on the upsampled mixture.

        Where the learning rate goes on by its schedule, the reference runs are themselves those that go on as before.
        """
        from mixwright.train.branch import branch

        final = self._study.final_phase
        assert final is not None
        bases, kept = self._bases(), self.kept()
        before, domains = bases[0].schedule.phases[-1].mixture, bases[0].schedule.domains
        after = (
            self._flow.optimized if final.weights == "optimized"
            else self._study.mixture(final.weights, domains, "final_phase")
        )  # fmt: skip

        def branches(name: str, mixture: Mixture) -> list[Run]:
            at = [kept[base.run_id][0] for base in bases]
            named = [(base, at[n], f"branch-{name}-{n}") for n, base in enumerate(bases)]
            return [branch(base, start, mixture, run_id=run_id, rate=final.rate) for base, start, run_id in named]

        goes_on = branches("continued", before) if final.rate == "anneal" else []
        return [*bases, *goes_on, *branches("upsampled", after)]

    def kept(self) -> dict[str, tuple[int, ...]]:
        """Which runs keep a checkpoint, and at which tokens: the reference runs of the final phase."""
        if self._study.final_phase is None:
            return {}
        at = int(self._study.final_phase.start * self.large[1])
        return {run.run_id: (at,) for run in self._bases()}

    def _bases(self) -> list[Run]:
        """The reference mixture at the larger size, once per seed: the same trainings as those of ``verify``."""
        seeds = range(self._study.verify.seeds if self._study.verify else 1)
        return [self._verifying(*self._flow.reference, n) for n in seeds]

    def _verifying(self, name: str, mixture: Mixture, number: int) -> Run:
        size, tokens = self.large
        seed = self.seed("verify", number)
        return self._run(f"verify-{name}-{number}", mixture, tokens, ModelSize.parse(size), seed, "verify")

    def _run(self, name: str, mixture: Mixture, tokens: int, size: ModelSize, seed: int, role: str) -> Run:
        schedule = Schedule.constant(mixture, tokens)
        return Run(name, schedule, size, seed, role, subsample=self.subsample(tokens))

    # ---- training them -----------------------------------------------------------------------------------------

    def logs(self) -> RunLogs:
        """Where the study wants its runs logged; nowhere by default."""
        from mixwright.train.logs import RunLogs

        wanted, title = self._study.logging, self._study.title or self._flow.root.resolve().name
        folder = self._flow.root / wanted.folder
        return RunLogs(folder, tensorboard=wanted.tensorboard, mlflow=wanted.mlflow, experiment=title)

    def sweep(
        self, runs: Sequence[Run], checkpoints: Mapping[str, tuple[int, ...]], engine: Engine | None = None
    ) -> list[Finished]:
        """Train what is not trained yet (on ``engine``, if not the study's), heard by the listener and logged."""
        from mixwright.train.sweep import sweep

        flow = self._flow
        with self.logs() as logs:

            def progress(run_id: str, fraction: float, facts: dict[str, Any]) -> None:
                flow.listener.progress(run_id, fraction, facts)
                logs.progress(run_id, fraction, facts)

            return sweep(
                runs, self._study.trainer, workspace=flow.workspace, corpus=flow.make("tokenize"),
                engine=engine or flow.engine, checkpoints=checkpoints, on_progress=progress, on_done=logs.done,
                on_cost=flow.listener.cost,
            )  # fmt: skip

    def train(
        self, runs: Sequence[Run], draft: Draft, checkpoints: Mapping[str, tuple[int, ...]] | None = None
    ) -> dict[str, verdict.Trained]:
        """Train what is not trained yet; writes ``observations.json`` and ``trajectories.json`` into the draft."""
        flow = self._flow
        for sentence in epochs.notes(runs, flow.supply):
            flow.listener.note(sentence)
        finished = self.sweep(runs, checkpoints or {})
        observations, trajectories = [], {}
        for one in finished:
            observations.append(one.observation.to_dict())
            if one.observation.status != DONE:
                flow.listener.note(f"Run {one.run.run_id} failed and is kept out: {one.observation.reason}.")
            trajectories[one.run.run_id] = one.artifact.json("trajectory.json")
        write_json(draft.path / "observations.json", observations)
        write_json(draft.path / "trajectories.json", trajectories)
        return {
            one.run.run_id: verdict.Trained(
                one.observation, [(p["tokens"], p["losses"]) for p in trajectories[one.run.run_id]]
            )
            for one in finished
        }
