"""What runs gave: one observation, and the table of many."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.core.mixture import Mixture
from mixwright.core.run import Run

#: A run that ended as planned; only these enter a fit.
DONE = "done"
#: A run that met NaN or inf, or whose trainer gave up; ``reason`` says where.
FAILED = "failed"


@dataclass(frozen=True)
class Observation:
    """What one run gave at one moment.

    ``losses`` are nats/token per metric, ``bpb`` bits/byte per metric (where the bytes are known), ``unigram`` the
    loss in nats/token of a model that knows only how often each token comes in the run's own mixture. ``tokens`` is
    how many training tokens the model had seen. A failed observation has status ``failed`` and a ``reason``.
    """

    run: Run
    tokens: int
    step: int
    losses: Mapping[str, float]
    bpb: Mapping[str, float] = field(default_factory=dict)
    unigram: Mapping[str, float] = field(default_factory=dict)
    status: str = DONE
    reason: str = ""

    def __post_init__(self) -> None:
        if self.status not in (DONE, FAILED):
            raise DataError(f"Run {self.run.run_id}: status must be {DONE!r} or {FAILED!r}; got {self.status!r}.")
        if self.status == FAILED and not self.reason:
            raise DataError(f"Run {self.run.run_id}: a failed run says why.")
        for name in ("losses", "bpb", "unigram"):
            values = {str(key): float(value) for key, value in getattr(self, name).items()}
            if self.status == DONE and not all(np.isfinite(value) for value in values.values()):
                bad = next(key for key, value in values.items() if not np.isfinite(value))
                raise DataError(
                    f"Run {self.run.run_id}: {name}[{bad}] is {values[bad]}; mark the run as failed instead."
                )
            object.__setattr__(self, name, MappingProxyType(values))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "run": self.run.to_dict(),
            "tokens": self.tokens,
            "step": self.step,
            "losses": dict(self.losses),
            "bpb": dict(self.bpb),
            "unigram": dict(self.unigram),
            "status": self.status,
            "reason": self.reason,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Observation:
        """The inverse of ``to_dict``."""
        return cls(**{**values, "run": Run.from_dict(values["run"])})


@dataclass(frozen=True, eq=False)
class Runs:
    """A table of N observations of runs over D domains and M metrics; what laws are fitted on.

    A row is what one run gave at one moment. ``run_id`` may stand in several rows (a trajectory) if their ``tokens`` or
    ``step`` differ; ``last()`` keeps the last row of each run. ``weights (N, P, D)`` and ``phase_tokens (N, P)`` hold the
    schedules (P is 1 where there are no phases; the unused phases of a shorter schedule have 0 tokens).
    ``losses (N, M)`` and ``bpb (N, M)`` may hold NaN where a metric was not measured; ``unigram (N, M)`` too.
    ``tokens (N,)`` and ``params (N,)`` (non-embedding) are NaN where unknown. ``units`` gives each metric's unit
    (nats/token unless said). ``own`` maps a metric to the domains it is the held-out part of (none: an empty tuple); for
    metrics it does not name, laws go by the names. ``related`` maps a domain to an earlier version of it, to which laws
    may expect it to be alike. Only rows with status ``done`` enter a fit. DataError for rows that contradict this,
    naming the first.
    """

    domains: tuple[str, ...]
    metrics: tuple[str, ...]
    run_id: tuple[str, ...]
    weights: NDArray[np.float64]
    losses: NDArray[np.float64]
    phase_tokens: NDArray[np.float64] = None  # type: ignore[assignment]  # an array after construction
    tokens: NDArray[np.float64] = None  # type: ignore[assignment]  # an array after construction
    params: NDArray[np.float64] = None  # type: ignore[assignment]  # an array after construction
    bpb: NDArray[np.float64] = None  # type: ignore[assignment]  # an array after construction
    unigram: NDArray[np.float64] = None  # type: ignore[assignment]  # an array after construction
    step: tuple[int, ...] = ()
    seed: tuple[int, ...] = ()
    status: tuple[str, ...] = ()
    role: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    own: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    related: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count, metrics, domains = len(self.run_id), len(self.metrics), len(self.domains)
        weights = np.array(self.weights, dtype=np.float64)
        if weights.ndim == 2:
            weights = weights[:, None, :]
        if weights.ndim != 3 or weights.shape[0] != count or weights.shape[2] != domains:
            raise DataError(
                f"Weights of {count} runs over {domains} domains have shape (N, P, D); got {weights.shape}."
            )
        used = np.array(self.phase_tokens if self.phase_tokens is not None else np.ones(weights.shape[:2]), dtype=float)
        sums = weights.sum(axis=2)
        bad = np.argwhere((used > 0) & ~(np.abs(sums - 1) <= 1e-6) | ~np.isfinite(sums) | (weights.min(axis=2) < 0))
        if bad.size:
            row, phase = int(bad[0][0]), int(bad[0][1])
            raise DataError(
                f"Run {self.run_id[row]}: its weights{f' in phase {phase + 1}' if weights.shape[1] > 1 else ''} must be "
                f"non-negative and sum to 1; they sum to {sums[row, phase]:.6g}."
            )
        self._put("weights", weights)
        self._put("phase_tokens", used)
        self._put("losses", np.array(self.losses, dtype=np.float64).reshape(count, metrics))
        for name, shape in (
            ("bpb", (count, metrics)),
            ("unigram", (count, metrics)),
            ("tokens", (count,)),
            ("params", (count,)),
        ):
            given = getattr(self, name)
            values = np.full(shape, np.nan) if given is None else np.array(given, dtype=np.float64)
            if values.shape != shape:
                raise DataError(f"{name} of {count} runs and {metrics} metrics has shape {shape}; got {values.shape}.")
            self._put(name, values)
        defaults: dict[str, tuple[Any, ...]] = {
            "step": (0,) * count, "seed": (0,) * count, "status": (DONE,) * count, "role": ("",) * count,
            "units": ("nats/token",) * metrics,
        }  # fmt: skip
        for name, default in defaults.items():
            given_values = tuple(getattr(self, name)) or default
            if len(given_values) != len(default):
                raise DataError(f"{name} needs {len(default)} values; got {len(given_values)}.")
            object.__setattr__(self, name, given_values)
        object.__setattr__(self, "own", checked_own(self.own, self.metrics, self.domains))
        object.__setattr__(self, "related", dict(self.related))
        _known(
            "The map of domains to their earlier versions",
            "domain",
            [*self.related, *self.related.values()],
            self.domains,
        )
        self._refuse_rows_twice()

    def _refuse_rows_twice(self) -> None:
        """Raise DataError for two rows of one run at the same tokens and step."""
        if len(set(self.run_id)) == len(self):
            return
        rows = Counter(zip(self.run_id, np.nan_to_num(self.tokens, nan=-1.0).tolist(), self.step, strict=True))
        if twice := sorted({name for (name, _, _), number in rows.items() if number > 1}):
            raise DataError(
                f"Each run id stands once in a table of runs, or once at each tokens or step; {', '.join(twice[:5])} stands "
                "more than once."
            )

    def _put(self, name: str, array: NDArray[np.float64]) -> None:
        array.setflags(write=False)
        object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.run_id)

    @classmethod
    def from_observations(cls, observations: Iterable[Observation]) -> Runs:
        """One row per observation, in their order; metrics are those of any observation, in order of appearance."""
        rows = list(observations)
        if not rows:
            raise DataError("There are no observations to make a table of.")
        domains = rows[0].run.schedule.domains
        metrics = tuple(dict.fromkeys(name for row in rows for name in row.losses))
        phases = max(len(row.run.schedule.phases) for row in rows)
        weights = np.zeros((len(rows), phases, len(domains)))
        phase_tokens = np.zeros((len(rows), phases))
        for n, row in enumerate(rows):
            for p, phase in enumerate(row.run.schedule.phases):
                weights[n, p] = phase.mixture.over(domains).weights
                phase_tokens[n, p] = phase.tokens

        def table(name: str) -> NDArray[np.float64]:
            return np.array([[getattr(row, name).get(m, np.nan) for m in metrics] for row in rows], dtype=np.float64)

        return cls(
            domains=domains,
            metrics=metrics,
            run_id=tuple(row.run.run_id for row in rows),
            weights=weights,
            phase_tokens=phase_tokens,
            losses=table("losses"),
            bpb=table("bpb"),
            unigram=table("unigram"),
            tokens=np.array([row.tokens for row in rows], dtype=np.float64),
            params=np.array([row.run.size.params for row in rows], dtype=np.float64),
            step=tuple(row.step for row in rows),
            seed=tuple(row.run.seed for row in rows),
            status=tuple(row.status for row in rows),
            role=tuple(row.run.role for row in rows),
        )

    def mixtures(self) -> NDArray[np.float64]:
        """The mixture of each whole run, ``(N, D)``: phases weighted by their tokens."""
        total = self.phase_tokens.sum(axis=1, keepdims=True)
        share = self.phase_tokens / np.where(total == 0, 1, total)
        return np.asarray(np.einsum("np,npd->nd", share, self.weights))

    def mixture(self, row: int) -> Mixture:
        """The mixture of one whole run."""
        return Mixture.normalized(self.domains, self.mixtures()[row])

    def take(self, rows: Sequence[int] | NDArray[Any]) -> Runs:
        """The table of these rows (indices, or a boolean mask of length N)."""
        index = np.asarray(rows)
        index = np.flatnonzero(index) if index.dtype == bool else index.astype(int)

        def pick(values: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(values[i] for i in index)

        return Runs(
            self.domains, self.metrics, pick(self.run_id), self.weights[index], self.losses[index],
            self.phase_tokens[index], self.tokens[index], self.params[index], self.bpb[index], self.unigram[index],
            pick(self.step), pick(self.seed), pick(self.status), pick(self.role), self.units, self.own, self.related,
        )  # fmt: skip

    def last(self) -> Runs:
        """One row per run, its last (of most tokens, then steps), in the order in which the runs first appear."""
        places: dict[str, int] = {}
        run = np.array([places.setdefault(name, len(places)) for name in self.run_id], dtype=np.int64)
        if len(places) == len(self):
            return self
        order = np.lexsort((np.array(self.step), np.nan_to_num(self.tokens, nan=-1.0), run))
        return self.take(order[np.append(np.diff(run[order]) > 0, True)])

    def without_copies(self) -> tuple[Runs, str]:
        """Without the rows that repeat another run's to the last bit (schedule, size, moment, seed, losses), and a sentence.

        The sentence says how many runs were left out, empty if none. Of copies the first by id is kept, whatever the
        order of rows. Failed rows and rows without any loss are no copies.
        """
        parts = [
            self.weights.reshape(len(self), -1),
            self.phase_tokens,
            self.losses,
            self.tokens,
            self.params,
            self.seed,
            self.step,
        ]
        whole = np.column_stack([np.asarray(part, dtype=np.float64) for part in parts]) + 0.0
        whole[np.isnan(whole)] = np.nan
        measured = np.isfinite(self.losses).any(axis=1) & (np.array(self.status) == DONE)
        first: dict[bytes, int] = {}
        twin = np.arange(len(self))
        for n in sorted(np.flatnonzero(measured).tolist(), key=lambda n: self.run_id[n]):
            twin[n] = first.setdefault(whole[n].tobytes(), n)
        copies = np.flatnonzero(twin != np.arange(len(self)))
        if not len(copies):
            return self, ""
        named = {self.run_id[n]: self.run_id[twin[n]] for n in copies}
        words = ", ".join(f"{copy} of {original}" for copy, original in list(named.items())[:6])
        sentence = (
            f"Counted once: {len(named)} exact cop{'y' if len(named) == 1 else 'ies'} of other runs, with the same mixture, "
            f"seed and losses ({words}{', …' if len(named) > 6 else ''})."
        )
        return self.take(np.delete(np.arange(len(self)), copies)), sentence

    def only(self, metrics: Sequence[str]) -> Runs:
        """The table with these of its metrics, in this order."""
        index = [self.metrics.index(metric) for metric in metrics]
        return replace(
            self, metrics=tuple(metrics), units=tuple(self.units[m] for m in index), losses=self.losses[:, index],
            bpb=self.bpb[:, index], unigram=self.unigram[:, index],
            own={metric: domains for metric, domains in self.own.items() if metric in metrics},
        )  # fmt: skip

    def usable(self) -> Runs:
        """The rows that enter a fit: status ``done``."""
        return self.take([i for i, status in enumerate(self.status) if status == DONE])


def checked_own(
    own: Mapping[str, str | Sequence[str]], metrics: Sequence[str], domains: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """The map from metrics to the domains they belong to, every value a tuple. DataError for a name that is not there."""
    plain = {str(key): (value,) if isinstance(value, str) else tuple(map(str, value)) for key, value in own.items()}
    place = "The map of metrics to their own domains"
    _known(place, "metric", plain, metrics)
    _known(place, "domain", [domain for several in plain.values() for domain in several], domains)
    return plain


def _known(place: str, what: str, given: Iterable[str], known: Sequence[str]) -> None:
    names = frozenset(known)
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise DataError(
                f"{place} names the {what} {name!r}, which the table does not have.{hint} "
                f"It has: {', '.join(known[:20])}{', …' if len(known) > 20 else ''}."
            )
