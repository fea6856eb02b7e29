"""The command trainer: someone else's program trains the run; its metrics file says what came out.

The program finds what is wanted in the environment, and in its command line where the setting says so:

    name           MIXWRIGHT_...  {...}   is
    recipe         the run's schedule as a recipe.yaml; beside it run.json, and the files of ``export``
    corpus         the folder of the tokenize artifact (train/<domain>/ holds Megatron shards); empty if there is none
    out            the program's own folder: metrics and checkpoints go here; the same one after an interruption
    run, seed      the run's id and seed
    tokens         training tokens in all
    size           WIDTHxLAYERS; width, layers and params (outside embeddings) too
    seq_len, batch as in the study; subsample: the part of each domain's unique tokens that the run may draw from
    checkpoints    tokens at which a folder ``checkpoint-<tokens>`` is asked for in ``out``, with commas between
    parent         the checkpoint folder that a branch starts from, parent_tokens the tokens it has seen; empty, 0
    attempt        0, 1, ...: how often the program was begun again
    python         this interpreter
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from annotated_types import Ge, Gt

from mixwright.core.errors import DataError, StudyError
from mixwright.core.find import find
from mixwright.core.objective import Objective
from mixwright.core.observation import DONE, FAILED, Observation
from mixwright.core.recipe import Recipe
from mixwright.core.run import Run
from mixwright.engine.task import Task
from mixwright.store.artifact import file_hash, read_json, write_atomic, write_json
from mixwright.train import guardian
from mixwright.train.metric_files import Row, read_rows
from mixwright.train.trainer import HOW_ONLY, Trainer, checkpoint_name, task_arguments, write_results

#: what a command may hold in braces
NAMES = (
    "recipe", "corpus", "out", "run", "seed", "tokens", "size", "width", "layers", "params", "seq_len", "batch",
    "subsample", "checkpoints", "parent", "parent_tokens", "attempt", "python",
)  # fmt: skip
#: in the run's folder: the program's own, and everything it printed
PROGRAM, LOG = "program", "program.log"
#: held by the guardian of a run's program: a second one waits until the first is gone
_LOCK = ".program.lock"
#: TensorBoard keeps float32, which holds this part of a number
_FLOAT32 = 2.0**-23
#: files named in a command that count as part of the program, and so of a run's key, up to this size
_PROGRAM_BYTES = 16_000_000
#: between SIGTERM and SIGKILL for a program that is over its time
_GRACE = 5.0
#: how often the metrics are looked at while the program runs; reading them may take this part of the time at most
_LOOK_EVERY, _LOOK_PART = 1.0, 0.05
#: training losses in a row that are not finite, after which a run is given up (single ones come with 16-bit floats)
_LOST = 3
_BRACES = re.compile(r"\{\{|\}\}|\{([A-Za-z_]+)\}")
_LAST_LINES, _LINE = 5, 200

Unit = Literal["nats/token", "bits/token", "bits/byte", "perplexity"]


@dataclass(frozen=True)
class Command(Trainer):
    """Settings of the command trainer.

    ``command`` is a list of words, or a line that is split as a shell would (no shell runs it); ``{out}`` and the like are
    filled in, ``{{`` is a brace. It starts in the study's folder. ``metrics`` is a pattern of files in the program's
    folder (see ``metric_files.py``), ``names`` maps this study's metrics to those in the files, with one star on both
    sides or none; ``tokens`` and ``step`` are what the file calls these, ``tokens_per_step`` counts tokens where it has
    none (without: the last step is the run's end), ``loss`` is the training loss, for the display. ``units`` is the unit
    of all mapped metrics. ``time_limit`` are seconds for the whole run, ``retries`` how often a program that ended badly
    is begun again. ``env`` adds to the environment. ``export`` names an exporter whose files are written for the run,
    for ``seq_len`` and ``batch``. ``keep`` says whether the program's files stay with the run, or only metrics,
    checkpoints and the log. Files named in ``command`` are part of the run's key; raise ``version`` when something else
    that the outcome depends on has changed. ``threads`` and ``gpus`` are what a run takes of the machine, ``seconds`` about
    how long it lasts.
    """

    command: str | tuple[str, ...]
    metrics: str = "metrics.jsonl"
    names: Mapping[str, str] = field(default_factory=lambda: {"val:*": "val:*", "target:*": "target:*"})
    tokens: str = "tokens"
    step: str = "step"
    loss: str = "loss"
    tokens_per_step: Annotated[float, Gt(0)] | None = None
    units: Unit = "nats/token"
    export: str | None = None
    seq_len: Annotated[int, Ge(1)] = 128
    batch: Annotated[int, Ge(1)] = 4
    env: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    time_limit: Annotated[float, Gt(0)] | None = field(default=None, metadata=HOW_ONLY)
    retries: Annotated[int, Ge(0)] = field(default=0, metadata=HOW_ONLY)
    keep: bool = field(default=True, metadata=HOW_ONLY)
    threads: Annotated[int, Ge(1)] = field(default=1, metadata=HOW_ONLY)
    gpus: Annotated[int, Ge(0)] = field(default=0, metadata=HOW_ONLY)
    seconds: Annotated[float, Gt(0)] = field(default=60.0, metadata=HOW_ONLY)
    folder: str = field(default="", metadata=HOW_ONLY)

    def __post_init__(self) -> None:
        if not self.words:
            raise StudyError("trainer.command is empty; give the program and its arguments.")
        filled(self.words, dict.fromkeys(NAMES, ""))
        for ours, theirs in self.names.items():
            if ours.count("*") != theirs.count("*") or ours.count("*") > 1:
                raise StudyError(f"trainer.names has {ours!r}: {theirs!r}; a name has one star on both sides, or none.")

    @property
    def words(self) -> tuple[str, ...]:
        """The command as words. StudyError for quotes that do not end."""
        if not isinstance(self.command, str):
            return tuple(self.command)
        try:
            return tuple(shlex.split(self.command))
        except ValueError as error:
            raise StudyError(f"trainer.command cannot be split into words ({error}): {self.command}") from error

    def placed(self, folder: Path) -> Command:
        """See ``Trainer.placed``."""
        return replace(self, folder=str(folder / self.folder))

    def task(
        self,
        run: Run,
        *,
        corpus: Path | None,
        out: Path,
        checkpoints: tuple[int, ...] = (),
        parent: Path | None = None,
    ) -> Task:
        arguments = task_arguments(self.placed(Path.cwd()), run, corpus, out, checkpoints, parent)
        function = "mixwright.train.trainers.command:command_task"
        return Task(run.run_id, function, arguments, self.cost(run), threads=self.threads, gpus=self.gpus)

    def cost(self, run: Run) -> float:
        """CPU-seconds: as the settings say."""
        return self.seconds * self.threads

    def identity(self) -> dict[str, Any]:
        """With the checksums of the files that the command names."""
        files = [Path(self.folder) / word for word in self.words]
        here = [file for file in files if file.is_file() and file.stat().st_size <= _PROGRAM_BYTES]
        return super().identity() | {"files": [file_hash(file) for file in here]}


def filled(words: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """A command with its braces filled in. StudyError for a name that means nothing."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return match[0][0]
        if name not in values:
            near = difflib.get_close_matches(name, values, n=1)
            hint = f" Did you mean {{{near[0]}}}?" if near else f" There are: {', '.join(values)}."
            raise StudyError(
                f"trainer.command has {{{name}}}, which means nothing.{hint} A brace itself is written {{{{."
            )
        return values[name]

    return [_BRACES.sub(value, word) for word in words]


def command_task(
    progress: Callable[..., None],
    *,
    run: Mapping[str, Any],
    corpus: str | None,
    out: str,
    options: Mapping[str, Any],
    checkpoints: Sequence[int],
    parent: str | None,
) -> dict[str, Any]:
    """What ``Command.task`` runs.

    A program that ends with another code than 0, is over its time, or leaves no metrics that can be read, or some that
    are not finite, makes a failed run; the reason says so, and ``program.log`` holds what it printed. StudyError where
    the program cannot be started at all.
    """
    work = _Program(Command(**options), Run.from_dict(run), Path(out), corpus, tuple(checkpoints), parent)
    return work.to_the_end(progress)


class _Program:
    """A run that a program trains: what it is told, how it is watched, what it left."""

    def __init__(
        self,
        options: Command,
        run: Run,
        out: Path,
        corpus: str | None,
        checkpoints: tuple[int, ...],
        parent: str | None,
    ) -> None:
        self.options, self.run, self.out, self.checkpoints = options, run, out, checkpoints
        self.corpus = Path(corpus).resolve() if corpus is not None else None
        self.parent = parent
        self.folder = (out / PROGRAM).resolve()
        self.begun = time.monotonic()
        known = read_json(self.corpus / "metrics.json") if self.corpus is not None else {}
        self.bytes_per_token: dict[str, float] = {
            name: entry["bytes"] / entry["tokens"] for name, entry in known.items()
        }
        self.attempts = 0

    def to_the_end(self, progress: Callable[..., None]) -> dict[str, Any]:
        """Run the program, again while retries are left, and write the run's files."""
        self._prepare()
        reason = ""
        for attempt in range(1 + self.options.retries):
            self.attempts = attempt + 1
            reason, final = self._attempt(attempt, progress)
            if not reason or final:
                break
        return self._write(reason)

    # ---- before ------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Write what the program reads: the run, its recipe, and the exporter's files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        recipe = Recipe(self.run.schedule, Objective(), supply=self._supply(), params=self.run.size.params)
        write_json(self.folder / "run.json", self.run.to_dict())
        write_atomic(self.folder / "recipe.yaml", yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True))
        if self.options.export is not None:
            exporter = find("export", self.options.export)()
            root = None if self.corpus is None else str(self.corpus)
            files = exporter.files(recipe, tokens_root=root, seq_len=self.options.seq_len, batch=self.options.batch)
            for name, content in files.items():
                write_atomic(self.folder / name, content)

    def _supply(self) -> dict[str, int]:
        if self.corpus is None:
            return {}
        domains = read_json(self.corpus / "corpus.json")["domains"]
        return {domain["name"]: domain["tokens"] for domain in domains if domain["name"] in self.run.schedule.domains}

    def told(self, attempt: int) -> dict[str, str]:
        """What the program is told, by the names of ``NAMES``."""
        run, size, options = self.run, self.run.size, self.options
        parent = str((Path(self.parent) / checkpoint_name(run.parent_tokens)).resolve()) if self.parent else ""
        values = (
            self.folder / "recipe.yaml", self.corpus or "", self.folder, run.run_id, run.seed, run.schedule.tokens, size,
            size.width, size.layers, size.params, options.seq_len, options.batch, run.subsample,
            ",".join(map(str, self.checkpoints)), parent, run.parent_tokens, attempt, sys.executable,
        )  # fmt: skip
        return {name: str(value) for name, value in zip(NAMES, values, strict=True)}

    # ---- while it runs -----------------------------------------------------------------------------------------

    def _attempt(self, attempt: int, progress: Callable[..., None]) -> tuple[str, bool]:
        """Start the program once; why the run failed ("": it did not), and whether trying again is pointless."""
        told = self.told(attempt)
        words = filled(self.options.words, told)
        env = {f"MIXWRIGHT_{name.upper()}": value for name, value in told.items()}
        where = Path(self.options.folder or ".").resolve()
        _check_program(words[0], where, os.environ | self.options.env)
        self.out.mkdir(parents=True, exist_ok=True)
        with (self.out / LOG).open("ab") as log, (self.out / _LOCK).open("a") as lock:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_EX)
            log.write(f"$ {shlex.join(words)}\n".encode())
            log.flush()
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", guardian.__file__, *words], stdin=subprocess.PIPE, stdout=log,
                stderr=subprocess.STDOUT, cwd=where, env=os.environ | env | dict(self.options.env), start_new_session=True,
                pass_fds=(lock.fileno(),),
            )  # fmt: skip
            with _stopped_at_the_end(process):
                stopped = self._watch(process, progress)
        if stopped:
            return f"its program was stopped {stopped}{self._last_lines()}", True
        if process.returncode:
            return f"its program {_how(process.returncode)}{self._last_lines()}", False
        return self._why_unusable()

    def _watch(self, process: subprocess.Popen[bytes], progress: Callable[..., None]) -> str:
        """Wait for the program and tell how far it is; why it had to be stopped ("": it ended)."""
        limit, look = self.options.time_limit, time.monotonic() + _LOOK_EVERY
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(min(0.2, _LOOK_EVERY))
                return ""
            now, why = time.monotonic(), ""
            if limit is not None and now - self.begun > limit:
                why = f"after {limit:g} s, the time limit"
            elif now >= look:
                why = self._tell(progress)
                look = time.monotonic() + max(_LOOK_EVERY, (time.monotonic() - now) / _LOOK_PART)
            if why:
                _ask_to_end(process)
                return why

    def _tell(self, progress: Callable[..., None]) -> str:
        """How far the program is, as its metrics say; why it should be stopped, if they say that it is lost."""
        try:
            rows = read_rows(self.folder, self.options.metrics, step=self.options.step)
        except (DataError, OSError):
            return ""
        spent = time.monotonic() - self.begun
        tokens = [said for row in rows if (said := self._tokens_said(row)) is not None and math.isfinite(said)]
        seen = max(tokens, default=0.0)
        part = min(1.0, seen / self.run.schedule.tokens)
        losses = [row.values[self.options.loss] for row in rows if self.options.loss in row.values]
        facts: dict[str, Any] = {"loss": losses[-1]} if losses else {}
        if part > 0:
            new = max(seen - self.run.parent_tokens, 0.0)
            facts |= {"tokens": int(seen), "tokens_per_second": new / spent, "seconds_left": spent * (1 - part) / part}
        steps = [row.step for row in rows if row.step is not None]
        progress(part, **facts, **({"step": int(steps[-1])} if steps else {}))
        lost = len(losses) >= _LOST and not any(math.isfinite(loss) for loss in losses[-_LOST:])
        return f"since its last {_LOST} losses are not finite" if lost else ""

    def _tokens_said(self, row: Row) -> float | None:
        """Tokens at a row, as the file says or the settings count them."""
        if self.options.tokens in row.values:
            return row.values[self.options.tokens]
        if self.options.tokens_per_step is not None and row.step is not None:
            return row.step * self.options.tokens_per_step
        return None

    # ---- after -------------------------------------------------------------------------------------------------

    def _why_unusable(self) -> tuple[str, bool]:
        """Why what the program left is no result ("" if it is one), and whether trying again is pointless."""
        try:
            points = self.points()
        except DataError as error:
            return f"its metrics cannot be used: {error}", False
        missing = [
            checkpoint_name(tokens)
            for tokens in self.checkpoints
            if not any((place / checkpoint_name(tokens)).is_dir() for place in (self.folder, self.out))
        ]
        if missing:
            return f"its program left no {missing[0]} in its folder, which was asked for (MIXWRIGHT_CHECKPOINTS)", False
        bad = next((name for name, value in _last(points).items() if not math.isfinite(value)), None)
        return (f"its {bad} is {_last(points)[bad]:g} at the end", True) if bad is not None else ("", False)

    def points(self) -> list[tuple[int, int, dict[str, float]]]:
        """(tokens, step, losses in nats/token) of every row that has a metric of this study.

        DataError where there are no such rows, a metric that is named is missing, or its unit needs bytes that are unknown.
        """
        rows = read_rows(self.folder, self.options.metrics, step=self.options.step)
        there = list(dict.fromkeys(name for row in rows for name in row.values))
        names = mapped(self.options.names, there)
        found = []
        for number, row in enumerate(rows):
            losses = {
                names[name]: self._nats(names[name], value) for name, value in row.values.items() if name in names
            }
            if losses:
                found.append((self._tokens_at(rows, number), int(row.step or 0), losses))
        return found

    def _tokens_at(self, rows: Sequence[Row], number: int) -> int:
        """Training tokens at a row: said, or counted, or the part that its step is of the last one."""
        said = self._tokens_said(rows[number])
        total = self.run.schedule.tokens
        if said is not None and math.isfinite(said):
            return total if abs(said / total - 1) < _FLOAT32 else int(said)
        last, step = rows[-1].step, rows[number].step
        return round(total * step / last) if last and step is not None else total

    def _nats(self, metric: str, value: float) -> float:
        """A value in nats/token."""
        units = self.options.units
        if units == "perplexity":
            return math.log(value) if value > 0 else math.nan
        if units == "bits/byte":
            if metric not in self.bytes_per_token:
                raise DataError(
                    f"{metric} is in bits/byte, but the corpus does not know its bytes per token; let the program give nats/token"
                )
            return value * math.log(2) * self.bytes_per_token[metric]
        return value * math.log(2) if units == "bits/token" else value

    def _write(self, reason: str) -> dict[str, Any]:
        """Write the run's files from what the program left."""
        points = [] if reason else self.points()
        tokens = max((seen for seen, _, _ in points), default=0)
        step = max((at for _, at, _ in points), default=0)
        losses = _last(points)
        bpb = {m: v / self.bytes_per_token[m] / math.log(2) for m, v in losses.items() if m in self.bytes_per_token}
        observation = Observation(self.run, tokens, step, losses, bpb, {}, FAILED if reason else DONE, reason)
        trajectory = [
            {"tokens": seen, "losses": finite}
            for seen, _, measured in points
            if (finite := {name: value for name, value in measured.items() if math.isfinite(value)})
        ]
        for tokens_kept in () if reason else self.checkpoints:
            made = self.folder / checkpoint_name(tokens_kept)
            if made.is_dir():
                made.rename(self.out / checkpoint_name(tokens_kept))
        if not self.options.keep:
            self._remove_the_rest()
        seconds = time.monotonic() - self.begun
        facts = {
            "seconds": seconds, "cpu_seconds": seconds * self.options.threads, "attempts": self.attempts,
            "tokens_per_second": max(0, tokens - self.run.parent_tokens) / max(seconds, 1e-9), "train_losses": [],
            "rounding": [],
        }  # fmt: skip
        return write_results(self.out, observation, trajectory, facts)

    def _remove_the_rest(self) -> None:
        """Leave of the program's folder only the metrics, and what it was told."""
        kept = {self.folder / name for name in ("run.json", "recipe.yaml")} | set(
            self.folder.glob(self.options.metrics)
        )
        for path in sorted(self.folder.rglob("*"), reverse=True):
            if path in kept or any(place in kept for place in path.parents) or any(path in k.parents for k in kept):
                continue
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def _last_lines(self) -> str:
        """What the program said last, for the reason."""
        with (self.out / LOG).open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
            lines = [line for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
        last = [line.strip() for line in lines[-_LAST_LINES:] if not line.startswith("$ ")]
        said = ["".join(letter for letter in line if letter.isprintable())[:_LINE] for line in last]
        return f"; {LOG} ends: {' | '.join(said)}" if said else f"; it printed nothing ({LOG})"


def mapped(named: Mapping[str, str], there: Sequence[str]) -> dict[str, str]:
    """{name in the file: this study's} of the metrics that are ``there``.

    DataError when a name without a star is not there, or none is at all.
    """
    found: dict[str, str] = {}
    for ours, theirs in named.items():
        pattern = re.compile("(.+)".join(re.escape(part) for part in theirs.split("*")))
        hits = {name: match for name in there if (match := pattern.fullmatch(name))}
        if not hits and "*" not in theirs:
            near = difflib.get_close_matches(theirs, there, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise DataError(f"they have no {theirs!r}{hint} They have: {', '.join(there[:12]) or 'nothing'}")
        found |= {name: ours.replace("*", match[1]) if "*" in ours else ours for name, match in hits.items()}
    if not found:
        wanted, shown = ", ".join(named.values()), ", ".join(there[:12]) or "nothing"
        raise DataError(f"none of them is named as trainer.names says ({wanted}); they have: {shown}")
    return found


def _last(points: Sequence[tuple[int, int, Mapping[str, float]]]) -> dict[str, float]:
    """Each metric's last value."""
    return {name: value for _, _, losses in points for name, value in losses.items()}


def _ask_to_end(process: subprocess.Popen[bytes]) -> None:
    """Have the guardian send SIGTERM, and wait a little; whoever closes its pipe kills what is left."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.write(b"T")
        process.stdin.flush()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)


def _how(code: int) -> str:
    return f"was killed by signal {code - 128}" if code > 128 else f"ended with code {code}"


def _check_program(word: str, where: Path, env: Mapping[str, str]) -> None:
    found = where / word if os.sep in word else shutil.which(word, path=env.get("PATH"))
    if found is None or not os.access(found, os.X_OK):
        raise StudyError(
            f"trainer.command begins with {word!r}, which is no program that can be run from {where}. Give its path, or begin "
            "with {python} for a Python script."
        )


@contextlib.contextmanager
def _stopped_at_the_end(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """However the block ends, nothing that the process has started is left: its guardian kills it when the pipe closes."""
    try:
        yield
    finally:
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        process.wait()
