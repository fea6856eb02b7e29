"""study.yaml -> Study: the settings of every room, composed from the rooms' own options and read once, strictly.

An unknown key names the near one; a value out of range is given with its range and its line. Below this file nothing
sees a dict.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt
from pydantic import TypeAdapter, ValidationError

from mixwright.core.corpus import Domain
from mixwright.core.errors import MixwrightError, StudyError
from mixwright.core.find import find, names
from mixwright.core.mixture import Mixture
from mixwright.core.objective import Budget, Group, Objective, Within
from mixwright.core.run import ModelSize
from mixwright.curate.pipeline import Options as CurateOptions
from mixwright.laws.reuse import Changes
from mixwright.laws.steps import LearningRate
from mixwright.optimize.design import Options as DesignOptions
from mixwright.store.documents import SourceOptions
from mixwright.study.places import Placed, Where, read_yaml
from mixwright.text.tokenizer import Options as TokenizerOptions

SCHEMA = "mixwright/study/1"
#: laws that are fitted to runs of several sizes or token counts at once
SPANNING = ("nested", "joint", "transfer")


@dataclass(frozen=True)
class ProxyOptions:
    """The small runs of the sweep: model ``sizes`` (64x2 or 1M; one, until laws span sizes) and training ``tokens``.

    ``match_repetition``: every run that is trained here sees a subsample of each domain that it repeats as often as the run of
    the budget would repeat the whole domain (without it, proxies choose mixtures that the target run must repeat far
    more often; arXiv:2606.07597: with it the optimum found at a sixteenth of the tokens was within 0.05, without 0.75).
    """

    sizes: tuple[str, ...] = ("48x1",)
    tokens: Annotated[int, Ge(1)] = 307_200
    match_repetition: bool = True

    def __post_init__(self) -> None:
        for size in self.sizes:
            ModelSize.parse(size)
        if len(self.sizes) != 1:
            raise StudyError(
                "proxy.sizes must hold exactly one size, since a study from text is fitted at one (tables of runs may have "
                f"several, with law.form nested, joint or transfer); it holds {len(self.sizes)}."
            )


@dataclass(frozen=True)
class LawOptions:
    """``form``: ``auto`` chooses among ``forms`` per metric by nested cross-validation; or the name of one law.

    The first of ``forms`` is taken unless another predicts held-out runs better by more than its standard error.
    ``nested``, ``joint`` and ``transfer`` span sizes and token counts: they read every checkpoint (transfer: the last), know
    the learning ``rate`` where it is given, and are for the budget. ``repetition`` counts epochs as effective tokens;
    None: where tokens and supplies are known.
    """

    form: str = "auto"
    forms: tuple[str, ...] = ("hierarchical", "additive", "exponential")
    folds: Annotated[int, Ge(2)] = 5
    repeats: Annotated[int, Ge(1)] = 2
    rate: LearningRate | None = None
    repetition: bool | None = None

    def __post_init__(self) -> None:
        for name in (*self.forms, *(() if self.form == "auto" else (self.form,))):
            find("laws", name)
        if not self.forms:
            raise StudyError("law.forms must name at least one law; it is empty.")
        for name in self.forms:
            if name in SPANNING:
                raise StudyError(
                    f"law.forms compares laws of one size and token count; {name} spans them: write law.form: {name}."
                )
        if self.rate is not None and self.form not in ("nested", "joint"):
            raise StudyError(
                f"law.rate is for the laws nested and joint, which know steps; law.form is {self.form!r}. Change one of them."
            )

    @property
    def spans(self) -> bool:
        """Whether the law is one over sizes and token counts."""
        return self.form in SPANNING

    @property
    def candidates(self) -> tuple[str, ...]:
        """The laws to choose among."""
        return self.forms if self.form == "auto" else (self.form,)


@dataclass(frozen=True)
class GroupOptions:
    """Bounds on the summed weight of some ``domains``."""

    domains: tuple[str, ...]
    floor: float = 0.0
    ceiling: float = 1.0


@dataclass(frozen=True)
class WithinOptions:
    """At most ``kl`` nats or ``l1`` (0..2) from the ``prior``: ``natural``, ``current``, or weights of your own."""

    prior: Literal["natural", "current"] | Mapping[str, float] = "natural"
    kl: Annotated[float, Ge(0)] | None = None
    l1: Annotated[float, Ge(0)] | None = None


@dataclass(frozen=True)
class LossBudget:
    """A predicted loss may exceed its value at the reference mixture by ``nats`` or ``percent``, or be ``at_most`` so high.

    ``metrics`` are those it is the weighted mean of; none: the one it is named after.
    """

    nats: float | None = None
    percent: float | None = None
    at_most: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ObjectiveOptions:
    """What better means: ``metrics`` with weights (empty: the mean of all targets, or of all domains without targets).

    ``floors`` and ``ceilings`` are one weight for every domain, or one per domain; ``fixed`` sets weights; ``epoch_cap``
    bounds how often a domain's unique tokens are seen within the budget (``over_cap`` says what becomes of a recipe that is to
    be trained beyond it: an error, weights that keep to it, or leave); ``cost_cap`` the mean of ``costs`` per token;
    ``within`` the distance to a prior mixture; ``budgets`` other losses; ``trust`` the L1 distance from what the swept
    mixtures span. ``risk``: the quantile of the difference that is minimized instead of its expectation.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    floors: float | Mapping[str, float] = field(default_factory=dict)
    ceilings: float | Mapping[str, float] = field(default_factory=dict)
    epoch_cap: Annotated[float, Gt(0)] | None = None
    over_cap: Literal["error", "reweight", "allow"] = "error"
    groups: Mapping[str, GroupOptions] = field(default_factory=dict)
    fixed: Mapping[str, float] = field(default_factory=dict)
    within: WithinOptions | None = None
    costs: Mapping[str, float] = field(default_factory=dict)
    cost_cap: Annotated[float, Ge(0)] | None = None
    budgets: Mapping[str, LossBudget] = field(default_factory=dict)
    risk: Annotated[float, Gt(0.5), Lt(1)] | None = None
    trust: Annotated[float, Ge(0)] | None = None

    def __post_init__(self) -> None:
        self.over(())

    def over(self, domains: tuple[str, ...]) -> Objective:
        """The objective with its bounds written out for these domains."""

        def each(bound: float | Mapping[str, float]) -> Mapping[str, float]:
            return bound if isinstance(bound, Mapping) else dict.fromkeys(domains, bound)

        groups = {name: Group(g.domains, g.floor, g.ceiling) for name, g in self.groups.items()}
        budgets = {name: Budget(b.nats, b.percent, b.at_most, b.metrics) for name, b in self.budgets.items()}
        within = Within(self.within.prior, self.within.kl, self.within.l1) if self.within else None
        return Objective(
            self.metrics, each(self.floors), each(self.ceilings), self.epoch_cap, groups, self.fixed, within, self.costs,
            self.cost_cap, budgets, self.risk, self.trust,
        )  # fmt: skip


@dataclass(frozen=True)
class BudgetOptions:
    """The run the recipe is for: its training ``tokens`` (none: one pass over all sources) and its ``params``.

    ``seq_len`` (tokens a window) and ``batch`` (windows a step) are its too, for the exports; none: the proxies'.
    """

    tokens: Annotated[int, Ge(1)] | None = None
    params: Annotated[int, Ge(1)] | None = None
    seq_len: Annotated[int, Ge(1)] | None = None
    batch: Annotated[int, Ge(1)] | None = None


@dataclass(frozen=True)
class VerifyOptions:
    """Larger runs that check the answer: natural, uniform, your ``guess`` and the optimized mixture, ``seeds`` each."""

    size: str = "64x2"
    tokens: Annotated[int, Ge(1)] = 512_000
    seeds: Annotated[int, Ge(1)] = 2
    guess: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        ModelSize.parse(self.size)


@dataclass(frozen=True)
class FinalPhaseOptions:
    """The end-of-training study: from ``start`` (a fraction of the run) on, ``weights`` instead of the natural mixture.

    ``weights`` is ``optimized``, or a mixture of your own. The learning rate of the branches goes on by the parent's schedule
    (``rate: continue``), or falls linearly to zero from where it stood (``anneal``), as the natural run it is compared with does.
    """

    start: Annotated[float, Gt(0), Lt(1)] = 0.8
    weights: Literal["optimized"] | Mapping[str, float] = "optimized"
    rate: Literal["continue", "anneal"] = "continue"


@dataclass(frozen=True)
class EngineOptions:
    """Where tasks run: ``workers`` processes on this machine (0: one per core), or tasks at once on a Ray cluster (0: as many
    as its CPUs). ``address`` is that of the cluster: ``auto`` (the running one, or a new one on this machine) or a URL.
    """  # fmt: skip

    kind: Literal["local", "ray"] = "local"
    address: str = "auto"
    workers: Annotated[int, Ge(0)] = 0

    def __post_init__(self) -> None:
        if self.kind == "local" and self.address != "auto":
            raise StudyError(
                f"engine.address {self.address!r} is for engine.kind: ray; engine.kind is local. Change one."
            )


@dataclass(frozen=True)
class LoggingOptions:
    """Every run's losses in tools people know: event files for TensorBoard, a local file store for MLflow, under ``folder``."""

    tensorboard: bool = False
    mlflow: bool = False
    folder: str = "logs"


@dataclass(frozen=True)
class TableFile:
    """One table of finished runs: its ``path``, a second file with the ``metrics``, and how its columns are named.

    ``weights`` and ``losses`` are patterns of headers, ``columns`` maps our name of any other column to the file's,
    ``units`` is the unit of the losses (or of some metrics), ``tokens_per_step`` gives tokens where only steps are, and
    ``step`` takes all runs at that step instead of at their last.
    """

    path: str
    metrics: str | None = None
    weights: str | None = None
    losses: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    units: str | Mapping[str, str] | None = None
    tokens_per_step: Annotated[float, Gt(0)] | None = None
    step: Annotated[int, Ge(0)] | None = None


@dataclass(frozen=True)
class OlderTable(TableFile):
    """A table of runs over earlier domains, and the ``changes`` that made them those of today."""

    changes: Changes = field(default_factory=Changes)


@dataclass(frozen=True)
class TableOptions(TableFile):
    """A table of finished runs instead of text; ``own`` maps metrics to their domains, ``older`` are tables before it.

    ``supply`` gives the unique tokens of every domain, from which epochs follow.
    """

    own: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    supply: Mapping[str, Annotated[int, Ge(1)]] = field(default_factory=dict)
    older: tuple[OlderTable, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """Every file that is read."""
        return tuple(path for table in (self, *self.older) for path in (table.path, table.metrics) if path)


@dataclass(frozen=True)
class Study:
    """Everything a study says. ``trainer`` is the plug-in itself, with its options."""

    sources: Mapping[str, SourceOptions] = field(default_factory=dict)
    targets: Mapping[str, SourceOptions] = field(default_factory=dict)
    runs: TableOptions | None = None
    current: Mapping[str, float] | None = None
    curate: CurateOptions = field(default_factory=CurateOptions)
    tokenizer: TokenizerOptions = field(default_factory=TokenizerOptions)
    trainer: Any = None
    proxy: ProxyOptions = field(default_factory=ProxyOptions)
    design: DesignOptions = field(default_factory=DesignOptions)
    law: LawOptions = field(default_factory=LawOptions)
    objective: ObjectiveOptions = field(default_factory=ObjectiveOptions)
    budget: BudgetOptions = field(default_factory=BudgetOptions)
    verify: VerifyOptions | None = field(default_factory=VerifyOptions)
    final_phase: FinalPhaseOptions | None = field(default_factory=FinalPhaseOptions)
    export: tuple[str, ...] = ("megatron", "hf")
    engine: EngineOptions = field(default_factory=EngineOptions)
    logging: LoggingOptions = field(default_factory=LoggingOptions)
    seed: int = 0
    title: str = ""
    schema: str = SCHEMA
    #: where relative paths start, and the text the study was read from; not settings
    folder: Path = Path()
    text: str = ""

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains the sources make, in order of first appearance."""
        return tuple(dict.fromkeys(options.domain or name for name, options in self.sources.items()))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that training measures: ``val:<domain>`` and ``target:<name>``."""
        return (*(f"val:{name}" for name in self.domains), *(f"target:{name}" for name in self.targets))

    def metric_weights(self, metrics: tuple[str, ...]) -> dict[str, float]:
        """The objective's weights: those given; else equal ones over all targets; else over all metrics."""
        if self.objective.metrics:
            return dict(self.objective.metrics)
        chosen = [name for name in metrics if name.startswith("target:")] or list(metrics)
        return {name: 1.0 / len(chosen) for name in chosen}

    def mixture(self, weights: Mapping[str, float], domains: tuple[str, ...], where: str) -> Mixture:
        """A mixture written in the study, over ``domains``; StudyError that names the place when it is none."""
        try:
            return Mixture.of(weights).over(domains)
        except MixwrightError as error:
            raise StudyError(f"{where}: {error}") from error


#: keys that hold no settings of the study file
_NOT_IN_FILE = frozenset({"folder", "text"})


def read_study(file: Path) -> Study:
    """Read and check a study file. StudyError with place, value and way out for anything wrong in it."""
    return compose(read_yaml(file))


def compose(placed: Placed) -> Study:
    """The Study a YAML mapping says."""
    values = dict(placed.values)
    schema = values.get("schema", SCHEMA)
    if schema != SCHEMA:
        raise StudyError(
            f"{placed.at(('schema',))}: this study is in the form {schema!r}; this version reads {SCHEMA!r}."
        )
    trainer = _trainer(values.pop("trainer", None), placed)
    _check_keys(values, Study, (), placed)
    try:
        study = TypeAdapter(Study).validate_python(
            values | {"trainer": trainer, "folder": placed.file.resolve().parent, "text": placed.text}
        )
    except ValidationError as error:
        raise StudyError(_sentence(error, placed)) from error
    except MixwrightError as error:
        where = _refused(values, Study, ())
        name = f"{'.'.join(map(str, where))}: " if where else ""
        raise StudyError(f"{placed.at(where) if where else placed.file.name}: {name}{error}") from error
    _check_names(study, placed)
    return study


def _refused(values: Any, kind: Any, where: Where) -> Where:
    """The innermost part of the study that its own class refuses in a sentence; empty where only the whole is refused."""
    for step, part, inner in _parts(values, kind):
        try:
            TypeAdapter(inner).validate_python(part)
        except MixwrightError:
            return _refused(part, inner, (*where, step))
        except ValidationError:
            continue
    return where


def _parts(values: Any, kind: Any) -> list[tuple[str | int, Any, Any]]:
    """What a value consists of: key, value and type of each part that a class of options may stand behind."""
    origin = typing.get_origin(kind)
    if origin is Annotated:
        return _parts(values, typing.get_args(kind)[0])
    if origin in (typing.Union, types.UnionType):
        return [part for option in typing.get_args(kind) for part in _parts(values, option)]
    if origin is tuple and isinstance(values, list):
        return [(number, value, typing.get_args(kind)[0]) for number, value in enumerate(values)]
    if not isinstance(values, dict):
        return []
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return [(key, value, typing.get_args(kind)[1]) for key, value in values.items()]
    if not dataclasses.is_dataclass(kind):
        return []
    hints = typing.get_type_hints(kind, include_extras=True)
    return [(key, value, hints[key]) for key, value in values.items() if key in hints]


def _trainer(values: Any, placed: Placed) -> Any:
    values = values if values is not None else {"name": "builtin"}
    if not isinstance(values, dict) or not isinstance(values.get("name", "builtin"), str):
        raise StudyError(
            f"{placed.at(('trainer',))}: trainer must be a mapping such as {{name: builtin, seq_len: 128}}."
        )
    options = {key: value for key, value in values.items() if key != "name"}
    try:
        plug_in = find("trainers", values.get("name", "builtin"))
    except StudyError as error:
        raise StudyError(f"{placed.at(('trainer', 'name'))}: {error}") from error
    _check_keys(options, plug_in, ("trainer",), placed)
    try:
        return TypeAdapter(plug_in).validate_python(options).placed(placed.file.resolve().parent)
    except ValidationError as error:
        raise StudyError(_sentence(error, placed, ("trainer",))) from error
    except MixwrightError as error:
        raise StudyError(f"{placed.at(('trainer',))}: {error}") from error


def _check_keys(values: Any, kind: Any, where: Where, placed: Placed) -> None:
    """StudyError for a key that no field has, with the nearest one; descends into mappings and nested options."""
    origin = typing.get_origin(kind)
    if origin is Annotated:
        return _check_keys(values, typing.get_args(kind)[0], where, placed)
    if origin in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(kind) if option is not type(None)]
        nested = [option for option in options if dataclasses.is_dataclass(option) or typing.get_origin(option)]
        return _check_keys(values, nested[0], where, placed) if len(nested) == 1 else None
    if origin is tuple and isinstance(values, list):
        for number, value in enumerate(values):
            _check_keys(value, typing.get_args(kind)[0], (*where, number), placed)
        return None
    if not isinstance(values, dict):
        return None
    if isinstance(origin, type) and issubclass(origin, Mapping):
        for key, value in values.items():
            _check_keys(value, typing.get_args(kind)[1], (*where, key), placed)
        return None
    if not dataclasses.is_dataclass(kind):
        return None
    hints = typing.get_type_hints(kind, include_extras=True)
    known = [f.name for f in dataclasses.fields(kind) if f.init and not (kind is Study and f.name in _NOT_IN_FILE)]
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]!r}?" if near else f" Known here: {', '.join(sorted(known))}."
            inside = f" in {'.'.join(map(str, where))}" if where else ""
            raise StudyError(f"{placed.at((*where, key))}: there is no setting {key!r}{inside}.{hint}")
        _check_keys(value, hints[key], (*where, key), placed)
    return None


def _sentence(error: ValidationError, placed: Placed, root: Where = ()) -> str:
    """The first thing that is wrong, as a sentence with its place."""

    def place(one: Mapping[str, Any]) -> Where:
        path: Where = root
        for step in one["loc"]:
            if (*path, step) in placed.lines:  # union branches add names that are not in the file
                path = (*path, step)
        return path

    first = max(error.errors(), key=lambda one: len(place(one)))  # of a union's branches the one that fits best
    path = place(first)
    missing = first["type"] == "missing"
    message = first["msg"].replace("Input should be", "must be").replace("Value error, ", "")
    name = ".".join(str(step) for step in path) or "the study"
    if missing:
        return f"{placed.at(path)}: {name} lacks {first['loc'][-1]!r}."
    return f"{placed.at(path)}: {name} is {first['input']!r}; it {message}."


def _check_names(study: Study, placed: Placed) -> None:
    """Names that refer to other parts of the study must exist there."""
    if study.sources and study.runs is not None:
        raise StudyError(f"{placed.at(('runs',))}: a study has sources (text) or runs (a finished table), not both.")
    if not study.sources and study.runs is None:
        raise StudyError(
            f"{placed.file.name}: the study has neither sources (text) nor runs (a table of finished runs)."
        )
    if study.runs is not None:
        return  # names of a table's columns are checked when it is read
    if study.law.spans:
        raise StudyError(
            f"{placed.at(('law', 'form'))}: the law {study.law.form} spans sizes and token counts, which the sweep's runs "
            "share: it is for a table of runs (runs:). Use form: auto."
        )
    if study.law.repetition and study.proxy.match_repetition:
        raise StudyError(
            f"{placed.at(('law', 'repetition'))}: law.repetition is true, but the proxies repeat as the "
            "target run will (proxy.match_repetition), so the law must not count repeats again. Set one of the two to false."
        )
    domains, metrics = study.domains, study.metrics
    for name in (*study.domains, *study.targets):
        try:
            Domain(name, 0)
        except MixwrightError as error:
            raise StudyError(f"{placed.at(('sources', name))}: {error}") from error
    _known(study.curate.domains, (*domains, *study.targets), ("curate", "domains"), "domain", placed)
    _known(
        dict.fromkeys(study.curate.dedup.priority),
        tuple(study.sources),
        ("curate", "dedup", "priority"),
        "source",
        placed,
    )
    _known(study.objective.metrics, metrics, ("objective", "metrics"), "metric", placed)
    for name, budget in study.objective.budgets.items():
        at: Where = ("objective", "budgets", name, "metrics") if budget.metrics else ("objective", "budgets")
        _known(budget.metrics or {name: 1.0}, metrics, at, "metric", placed)
    within = study.objective.within
    if within is not None and not isinstance(within.prior, str):
        _known(within.prior, domains, ("objective", "within", "prior"), "domain", placed)
    for bounds in ("floors", "ceilings", "fixed", "costs"):
        given = getattr(study.objective, bounds)
        _known(given if isinstance(given, Mapping) else {}, domains, ("objective", bounds), "domain", placed)
    for group, options in study.objective.groups.items():
        _known(dict.fromkeys(options.domains), domains, ("objective", "groups", group, "domains"), "domain", placed)
    for where, weights in (
        (("current",), study.current),
        (("verify", "guess"), study.verify.guess if study.verify else None),
        (("final_phase", "weights"), study.final_phase.weights if study.final_phase else None),
    ):
        if isinstance(weights, Mapping):
            _known(weights, domains, where, "domain", placed)
            study.mixture(weights, domains, f"{placed.at(where)}: {'.'.join(where)}")
    for name in study.export:
        if name not in names("export") and ":" not in name:
            find("export", name)
    if not 0 <= study.seed < 2**63:
        raise StudyError(f"{placed.at(('seed',))}: seed must lie in 0..2^63-1; it is {study.seed}.")


def _known(given: Mapping[str, Any], known: tuple[str, ...], where: Where, what: str, placed: Placed) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise StudyError(
                f"{placed.at((*where, name))}: {'.'.join(map(str, where))} names the {what} {name!r}, which the study does "
                f"not have.{hint} It has: {', '.join(known)}."
            )


def settings(options: Any) -> dict[str, Any]:
    """An options dataclass as plain values, for keys and manifests."""
    return dataclasses.asdict(options) if options is not None else {}
