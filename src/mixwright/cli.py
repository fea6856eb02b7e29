"""The command line: one subcommand per verb. Method lives in study.yaml; flags say where and how loudly."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixwright import __version__
from mixwright.core.errors import MixwrightError, StudyError, disk_error, missing_extra

if TYPE_CHECKING:
    from mixwright.study.flow import Flow
    from mixwright.study.listener import Listener

app = typer.Typer(
    name="mixwright",
    help="Decide what a language model learns from: which text, in what proportions, in what order.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

StudyPath = Annotated[Path, typer.Option("--study", help="The study file.", show_default=True)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the result's place.")]
HERE = Path("study.yaml")
#: what typer raises for a wrong flag: the class that BadParameter and its siblings share
_USAGE: type[Exception] = typer.BadParameter.__bases__[0]


def _flow(study: Path, *, quiet: bool, as_json: bool) -> Flow:
    from mixwright.study.config import read_study
    from mixwright.study.flow import Flow

    return _watched(Flow(read_study(study)), quiet=quiet, as_json=as_json)


def _watched(flow: Flow, *, quiet: bool, as_json: bool) -> Flow:
    flow.listener = _listener(flow.engine.slots, quiet=quiet, as_json=as_json)
    return flow


def _flow_if_any(study: Path, *, quiet: bool, as_json: bool) -> Flow | None:
    """The flow of a study; None where there is none and none was asked for."""
    return _flow(study, quiet=quiet, as_json=as_json) if study.exists() or study != HERE else None


def _listener(slots: int, *, quiet: bool, as_json: bool) -> Listener:
    from rich.console import Console

    from mixwright.study.listener import Listener
    from mixwright.study.terminal import Terminal

    return Listener() if quiet or as_json else Terminal(Console(width=None if sys.stdout.isatty() else 110), slots)


def _say(text: str, result: dict[str, Any], *, as_json: bool) -> None:
    typer.echo(json.dumps(result, ensure_ascii=False, default=str) if as_json else text)


def _print(*renderables: Any) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 110)
    for renderable in renderables:
        console.print(renderable, highlight=False)


def _stage(stage: str, study: Path, *, quiet: bool, as_json: bool) -> None:
    """Run a study up to one stage."""
    flow = _flow(study, quiet=quiet, as_json=as_json)
    with flow.workspace.lock():
        artifact = flow.make(stage)
    where = os.path.relpath(artifact.path)
    _say(f"{stage}: {where}", {"verb": stage, "artifact": where, "key": artifact.key, **artifact.info}, as_json=as_json)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="The folder that holds your data: a file or a subfolder per domain.")],
    recipe: Annotated[
        Path | None,
        typer.Option("--from-data-juicer", help="A Data-Juicer recipe: its operators as the curate section."),
    ] = None,
    study: StudyPath = HERE,
) -> None:
    """Write a commented study.yaml for a folder of JSONL, Parquet or text files."""
    from mixwright.study.template import init as write

    if recipe is None:
        write(folder, study)
    else:
        from mixwright.curate.recipes.data_juicer import convert

        found = convert(recipe)
        write(folder, study, found.yaml_text)
        typer.echo(
            f"{recipe}: {len(found.mapped)} operators became rules, with notes on where numbers differ.", err=True
        )
        for name, reason in found.unmapped:
            typer.echo(f"not mapped: {name}: {reason}", err=True)
    typer.echo(f"Wrote {study}. Read it, then: mixwright run{'' if study == HERE else f' --study {study}'}")


@app.command()
def curate(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what the rules would keep; nothing is decided or written.")
    ] = False,
    study: StudyPath = HERE,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read, measure, decide, dedup; keep a ledger of everything dropped."""
    if not dry_run:
        _stage("curate", study, quiet=quiet, as_json=as_json)
        return
    from mixwright.study.what_if import tables, what_if

    flow = _flow(study, quiet=quiet, as_json=as_json)
    with flow.workspace.lock():
        found = what_if(flow)
    if as_json:
        _say("", {"verb": "curate", **found}, as_json=True)
    else:
        _print(*tables(found))


@app.command()
def why(
    row: Annotated[str, typer.Argument(metavar="ID", help="A row's id, the beginning of one, or PATH:ROW.")],
    study: StudyPath = HERE,
    as_json: Json = False,
) -> None:
    """Why a row was kept or dropped: every rule, its value and threshold; of a duplicate the row that was kept."""
    from mixwright.study.why import explain, shown

    flow = _flow(study, quiet=True, as_json=as_json)
    answer = explain(flow, row)
    if as_json:
        _say("", {"verb": "why", **answer.to_dict()}, as_json=True)
    else:
        _print(shown(answer))


@app.command()
def tokenize(
    files: Annotated[
        list[str] | None,
        typer.Argument(help="Instead of a study's sources: files, folders or patterns of text of one domain."),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="For files: a tokenizer.json or a Hugging Face folder.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="For files: the folder of their tokens.")] = None,
    text: Annotated[str, typer.Option(help="For files: the field or column that holds the text.")] = "text",
    workers: Annotated[int, typer.Option(min=0, help="For files: processes (0: one per core).")] = 0,
    study: StudyPath = HERE,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train the tokenizer (or load one) and encode; hold out validation documents. With FILES, only encode them."""
    if files:
        _tokenize_files(files, tokenizer, out, text, workers, quiet=quiet, as_json=as_json)
    elif tokenizer is not None or out is not None:
        raise StudyError("--tokenizer and --out are for files: name some, or set tokenizer.path in the study.")
    else:
        _stage("tokenize", study, quiet=quiet, as_json=as_json)


def _tokenize_files(
    files: list[str], tokenizer: Path | None, out: Path | None, text: str, workers: int, *, quiet: bool, as_json: bool
) -> None:
    from mixwright.engine.local import LocalEngine
    from mixwright.text.files import tokenize_files

    if tokenizer is None or out is None:
        raise StudyError(
            "Files are tokenized with --tokenizer (a tokenizer.json or a folder with one) into --out FOLDER."
        )
    engine = LocalEngine(workers)
    listener = _listener(engine.slots, quiet=quiet, as_json=as_json)
    listener.begin("tokenize", f"{len(files)} paths into {out}", {})
    try:
        made = tokenize_files(files, out, tokenizer=tokenizer, text=text, engine=engine, on_progress=listener.progress)
    finally:
        listener.close()
    if made.unreadable:
        listener.note(
            f"{made.unreadable:,} rows could not be read and are left out; the first: {made.first_unreadable}."
        )
    said = f"{made.tokens:,} tokens of {made.documents:,} documents; files read: {made.files}, shards written: {made.shards}"
    result = {**made.__dict__, "folder": str(made.folder), "verb": "tokenize"}
    _say(f"tokenize: {made.folder}" if quiet else f"{said}\ntokenize: {made.folder}", result, as_json=as_json)


@app.command()
def design(
    count: Annotated[int | None, typer.Option("--next", min=1, help="Propose so many further runs instead.")] = None,
    fit: Annotated[Path | None, typer.Option(help="The fit.json they build on (default: the study's own).")] = None,
    study: StudyPath = HERE,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Choose the mixtures the proxy runs try; with --next, the runs that should follow, if any should."""
    if count is not None:
        _propose(count, fit, study, quiet=quiet, as_json=as_json)
    elif fit is not None:
        raise StudyError("--fit says which fit the next runs build on; say how many with --next N.")
    else:
        _stage("design", study, quiet=quiet, as_json=as_json)


def _propose(count: int, fit: Path | None, study: Path, *, quiet: bool, as_json: bool) -> None:
    from mixwright.study.proposals import propose, table

    flow = _flow(study, quiet=quiet, as_json=as_json)
    with flow.workspace.lock():
        found, place = propose(flow, count, fit)
    text = f"next runs: {place}" if quiet else f"{table(found)}\nnext runs: {place}"
    _say(text, {"verb": "design", "table": str(place), **found.to_dict()}, as_json=as_json)


@app.command()
def sweep(study: StudyPath = HERE, as_json: Json = False, quiet: Quiet = False) -> None:
    """Train one small model per mixture; goes on where it was stopped."""
    _stage("sweep", study, quiet=quiet, as_json=as_json)


@app.command()
def fit(
    runs: Annotated[Path | None, typer.Option(help="A table of finished runs (CSV, Parquet, JSONL).")] = None,
    metrics: Annotated[Path | None, typer.Option(help="A second table with the losses, joined by run id.")] = None,
    weights: Annotated[str | None, typer.Option(help="Pattern of the weight columns, such as 'train/*'.")] = None,
    losses: Annotated[str | None, typer.Option(help="Pattern of the loss columns, such as 'valid/*'.")] = None,
    column: Annotated[list[str] | None, typer.Option(help="Another name of a column, as in 'metric=task'.")] = None,
    units: Annotated[str | None, typer.Option(help="Unit of the losses, if not nats/token.")] = None,
    own: Annotated[list[str] | None, typer.Option(help="A metric's own domain, as in 'val:Books=books'.")] = None,
    tokens_per_step: Annotated[float | None, typer.Option(help="Tokens a step, where only steps are given.")] = None,
    step: Annotated[int | None, typer.Option(help="Take all runs at this step, not at their last.")] = None,
    study: StudyPath = HERE,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit laws to the runs of the sweep, or to a table of your own."""
    if runs is not None:
        named = {name: theirs[-1] for name, theirs in _pairs("column", column).items()}
        _study_for_table(
            runs, study,
            {"metrics": metrics, "weights": weights, "losses": losses, "columns": named, "units": units,
             "own": _pairs("own", own), "tokens_per_step": tokens_per_step, "step": step},
        )  # fmt: skip
    _stage("fit", study, quiet=quiet, as_json=as_json)


def _pairs(flag: str, given: list[str] | None) -> dict[str, list[str]]:
    """``name=value`` flags as a mapping to the values given for a name."""
    out: dict[str, list[str]] = {}
    for text in given or ():
        name, equals, value = text.rpartition("=")
        if not (equals and name and value):
            raise StudyError(f"--{flag} is written NAME=VALUE; got {text!r}.")
        out.setdefault(name, []).append(value)
    return out


def _plain(value: Any) -> Any:
    """Equal for what a study and flags say in different words: single values as lists of one, numbers as numbers."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [value] if isinstance(value, str) else list(value) if isinstance(value, (list, tuple)) else value


def _study_for_table(runs: Path, study: Path, options: dict[str, Any]) -> None:
    """A study for this table: written if there is none; one that says otherwise is not overruled."""
    from mixwright.study.config import read_study
    from mixwright.study.template import table_study

    if not runs.is_file():
        raise StudyError(f"There is no table of runs at {runs}.")
    folder = study.resolve().parent
    given = {k: os.path.relpath(v, folder) if isinstance(v, Path) else v for k, v in options.items() if v or v == 0}
    if not study.exists():
        table_study(runs, study, given)
        typer.echo(f"Wrote {study}: the objective is the mean of all metrics, without caps. Change it there.", err=True)
        return
    table = read_study(study).runs
    same = table is not None and (folder / table.path).resolve() == runs.resolve()
    if not same or any(_plain(getattr(table, key)) != _plain(value) for key, value in given.items()):
        raise StudyError(
            f"{study} already says which runs to fit ({table.path if table else 'those of its own sweep'}). Edit its runs "
            "section, or give another place with --study."
        )


@app.command()
def optimize(
    pareto: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="A B", help="Instead: the front between two losses (metrics, or patterns such as 'val:*')."
        ),
    ] = None,
    study: StudyPath = HERE,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the best mixture for the objective under its constraints; writes recipe.yaml."""
    if pareto is None:
        _stage("optimize", study, quiet=quiet, as_json=as_json)
    else:
        _front(pareto, study, quiet=quiet, as_json=as_json)


def _front(names: tuple[str, str], study: Path, *, quiet: bool, as_json: bool) -> None:
    from mixwright.report.answers import front_notes, front_table
    from mixwright.study.fronts import front
    from mixwright.study.terminal import Terminal

    flow = _flow(study, quiet=quiet, as_json=as_json)
    with flow.workspace.lock():
        found, place = front(flow, *names)
    if isinstance(flow.listener, Terminal):
        flow.listener.show(front_table(found.to_dict(), flow.reference[0]), *front_notes(found.to_dict()))
    _say(f"front: {place}", {"verb": "optimize", "front": str(place), **found.to_dict()}, as_json=as_json)


@app.command()
def verify(study: StudyPath = HERE, as_json: Json = False, quiet: Quiet = False) -> None:
    """Train larger models on the natural, uniform, guessed and optimized mixture."""
    _stage("verify", study, quiet=quiet, as_json=as_json)


@app.command()
def branch(study: StudyPath = HERE, as_json: Json = False, quiet: Quiet = False) -> None:
    """From one checkpoint near the end: go on as before, or switch to the upsampled mixture."""
    _stage("branch", study, quiet=quiet, as_json=as_json)


@app.command()
def export(
    model: Annotated[str | None, typer.Option(help="Instead: this run or checkpoint as a Hugging Face folder.")] = None,
    out: Annotated[Path | None, typer.Option(help="The folder to write the model to.")] = None,
    study: StudyPath = HERE,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the recipe in the trainers' own words; with --model, a trained model as a Hugging Face folder."""
    if (model is None) != (out is None):
        raise StudyError("--model names what to export and --out the folder to write it to: give both, or neither.")
    if model is None or out is None:
        _stage("export", study, quiet=quiet, as_json=as_json)
        return
    from mixwright.study.evaluate_one import export_model

    flow = _flow_if_any(study, quiet=quiet, as_json=as_json)
    where = str(export_model(flow, model, out))
    _say(f"model: {where}", {"verb": "export", "model": where}, as_json=as_json)


@app.command()
def report(study: StudyPath = HERE, as_json: Json = False, quiet: Quiet = False) -> None:
    """Write report.html, one page that needs no network."""
    _stage("report", study, quiet=quiet, as_json=as_json)


@app.command()
def train(
    recipe: Annotated[Path, typer.Option(help="A recipe.yaml.")] = Path("recipe.yaml"),
    size: Annotated[str, typer.Option(help="The model's size: parameters such as 1M, or WIDTHxLAYERS.")] = "64x2",
    tokens: Annotated[int | None, typer.Option(help="Training tokens (default: the recipe's).")] = None,
    study: StudyPath = HERE,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train one model on a recipe, with the study's corpus and trainer; keeps its last checkpoint. Works under torchrun."""
    from mixwright.study.train_one import follow, train_recipe

    if follow():  # another rank has the word
        return
    flow = _flow(study, quiet=quiet, as_json=as_json)
    with flow.workspace.lock():
        result = train_recipe(flow, recipe, size=size, tokens=tokens)
    losses = "  ".join(f"{name} {loss:.3f}" for name, loss in result["losses"].items())
    _say(f"{losses}\ntrain: {result['artifact']}", result, as_json=as_json)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A run of the study, a checkpoint, or a Hugging Face folder.")],
    tasks: Annotated[str, typer.Option(help="Tasks of the lm-eval harness, with commas between.")] = "",
    include: Annotated[Path | None, typer.Option(help="A folder of task files of your own.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Documents of each task (default: all).")] = None,
    shots: Annotated[int | None, typer.Option(min=0, help="Examples before each question.")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Tokens read of each metric (default: all).")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Documents or windows at once.")] = 8,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="Also write the result to this file.")] = None,
    study: StudyPath = HERE,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model: its loss on everything held out, and tasks of the lm-eval harness."""
    from mixwright.study.evaluate_one import evaluate as measure
    from mixwright.study.evaluate_one import table

    flow = _flow_if_any(study, quiet=quiet, as_json=as_json)
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    with flow.workspace.lock() if flow is not None else nullcontext():
        result = measure(
            flow, model, tasks=names, include=include, limit=limit, shots=shots, tokens=tokens, batch=batch, device=device,
            out=out,
        )  # fmt: skip
    place = f"evaluate: {os.path.relpath(result['artifact'])}" if "artifact" in result else ""
    text = place if quiet else "\n".join(part for part in (table(result), place) if part)
    _say(text, {"verb": "evaluate", **result}, as_json=as_json)


@app.command()
def run(
    study: StudyPath = HERE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done, and what it costs.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The whole study, from text to recipe and page; what is done already is not done again."""
    flow = _flow(study, quiet=quiet, as_json=as_json)
    if dry_run:
        _print_plan(flow, as_json=as_json)
        return
    _run(flow, as_json=as_json)


def _run(flow: Flow, *, as_json: bool) -> None:
    from mixwright.study.terminal import clock

    left = sum(step.cpu_seconds for step in flow.plan())
    if left > 1:
        wall = clock(left / flow.engine.slots)
        flow.listener.note(f"This will take about {left:,.0f} CPU-seconds, {wall} on {flow.engine.slots} workers.")
    flow.run()
    root = Path(os.path.relpath(flow.root))
    results = {"recipe": str(root / "recipe.yaml"), "report": str(root / "report.html")}
    _say("\n".join(f"{name}: {place}" for name, place in results.items()), {"verb": "run", **results}, as_json=as_json)


def _print_plan(flow: Flow, *, as_json: bool) -> None:
    from mixwright.study import publish
    from mixwright.study.terminal import clock

    steps, slots = flow.plan(), flow.engine.slots
    if as_json:
        typer.echo(json.dumps([step.__dict__ for step in steps]))
        return
    for sentence in publish.changes(flow):
        typer.echo(f"note: {sentence}")
    for step in steps:
        cost = "done" if step.done else f"{step.cpu_seconds:8,.0f} CPU-seconds  {step.detail}"
        typer.echo(f"{step.stage:10} {step.key}  {cost}")
    left = sum(step.cpu_seconds for step in steps)
    typer.echo(f"In all about {left:,.0f} CPU-seconds, {clock(left / slots)} on {slots} workers.")


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo's study lives.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Another seed gives other models and mixtures.")] = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The whole story on text found in this Python: about five minutes on two cores."""
    from mixwright.study.config import read_study
    from mixwright.study.demo import prepare
    from mixwright.study.flow import Flow

    notes = prepare(folder, seed)
    flow = _watched(Flow(read_study(folder / "study.yaml")), quiet=quiet, as_json=as_json)
    for note in notes:
        flow.listener.note(note)
    _run(flow, as_json=as_json)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"mixwright {__version__}")
        raise typer.Exit


def main() -> None:
    """The entry point: errors of the user's become one sentence and an exit code; ours show their traceback."""
    code = _guarded(lambda: app(standalone_mode=False))
    sys.exit(code)


def _guarded(call: Callable[[], Any]) -> int:
    try:
        result = call()
        return result if isinstance(result, int) else 0
    except typer.Exit as stop:
        return stop.exit_code
    except _USAGE as error:
        error.show()  # type: ignore[attr-defined]  # the base class has it in every version
        return 2
    except (KeyboardInterrupt, typer.Abort):
        return _fail("Stopped. The same command goes on where it was.", 130)
    except MixwrightError as error:
        return _fail(str(error), error.exit_code)
    except MemoryError:
        return _fail("Out of memory. Finished work is kept; use fewer workers or a smaller batch.", 5)
    except (OSError, RuntimeError, ModuleNotFoundError) as error:
        known = disk_error(error, getattr(error, "filename", None) or "a file") or missing_extra(error)
        if known is None:
            raise
        return _fail(str(known), known.exit_code)


def _fail(sentence: str, code: int) -> int:
    if "--json" in sys.argv:
        typer.echo(json.dumps({"error": sentence, "exit_code": code}))
    typer.echo(f"error: {sentence}", err=True)
    return code


if __name__ == "__main__":
    main()
