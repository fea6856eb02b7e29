"""One model measured: the verb ``evaluate``. Its loss on every held-out domain and target, and tasks of the lm-eval harness.

A model is a run of a study (by name, key or folder), a checkpoint, or a Hugging Face folder of anyone's. The result is an
artifact like any other where there is a study: the same model, tasks and corpus are not measured twice.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mixwright.core.errors import DataError, StudyError
from mixwright.engine.local import LocalEngine, cores
from mixwright.engine.task import Outcome, Task
from mixwright.store import hf
from mixwright.store.artifact import MANIFEST, Artifact, Workspace, content_key, file_hash, read_json, write_json
from mixwright.study.listener import Listener

if TYPE_CHECKING:
    from mixwright.study.flow import Flow

SCHEMA = "mixwright/evaluation/1"
VERSION = 1
_STATE, _RESULT = "state.json", "result.json"
#: tokens a window, where neither the model nor the study says
_WINDOW = 1024


@dataclass(frozen=True)
class Subject:
    """The model that is measured: its folder, the corpus it was trained on or is measured on, and its context."""

    folder: Path
    #: the tokenize artifact; None where there is none
    corpus: Artifact | None
    #: tokens of a window
    seq_len: int
    #: the run it is of, as far as that is known
    run: Mapping[str, Any] | None

    @property
    def exported(self) -> bool:
        """Whether it is in Hugging Face's layout already."""
        return hf.is_model(self.folder)

    @property
    def fingerprint(self) -> str:
        """The hash of its weights and tokenizer."""
        files = hf.weight_files(self.folder) if self.exported else [self.folder / "model.safetensors"]
        return content_key([file_hash(file) for file in files], hf.tokenizer_hash(self.folder))


def evaluate(
    flow: Flow | None,
    model: str | Path,
    *,
    tasks: Sequence[str] = (),
    include: Path | None = None,
    limit: int | None = None,
    shots: int | None = None,
    tokens: int | None = None,
    batch: int = 8,
    device: str = "auto",
    out: Path | None = None,
) -> dict[str, Any]:
    """Measure a model; gives what the artifact's ``result.json`` holds, and writes it to ``out``, too, where that is given.

    ``losses``: per metric of the corpus loss (nats/token), standard_error, bits_per_byte, tokens; ``tasks``: per task its
    metrics (value, standard_error, higher_is_better), samples, shots. ``tokens`` bounds the tokens read of each metric, ``limit``
    the documents of each task. StudyError for a task, model or folder that is not there; DataError for one that cannot
    be read. Needs the extra ``llm`` for tasks and for other people's folders.
    """
    subject = subject_of(flow, model)
    if subject.corpus is None and not tasks:
        raise StudyError(
            f"{model} can be measured on nothing: there is no study with a corpus here, and no task is named. Name some with "
            "--tasks, or a study with --study."
        )
    seed = flow.study.seed if flow is not None else 0
    asked = {
        "tasks": list(tasks), "include": _contents(include), "limit": limit, "shots": shots, "tokens": tokens, "seed": seed
    }  # fmt: skip
    corpus = subject.corpus.fingerprint if subject.corpus is not None else None
    key = content_key("evaluate", VERSION, subject.fingerprint, subject.seq_len, corpus, asked)
    found = None if flow is None else flow.workspace.find("evaluate", key)
    if found is None:
        how = {"batch": batch, "device": _device(device)}
        result = {
            "schema": SCHEMA, "model": str(model), "run": subject.run, "weights": subject.fingerprint,
            "seq_len": subject.seq_len, "settings": asked, **_measured(flow, subject, asked, include, how),
        }  # fmt: skip
        if flow is not None:
            draft = flow.workspace.draft("evaluate", key)
            write_json(draft.path / _RESULT, result)
            found = draft.seal(settings=asked, inputs={"model": subject.fingerprint})
    if found is not None:
        result = {**found.json(_RESULT), "model": str(model), "artifact": os.path.relpath(found.path)}
    if out is not None:
        write_json(out, result)
    return result


def export_model(flow: Flow | None, model: str | Path, out: Path) -> Path:
    """Write a run's last checkpoint, or a checkpoint, as a Hugging Face folder. StudyError for a model that is one already."""
    subject = subject_of(flow, model)
    if subject.exported:
        raise StudyError(f"{subject.folder} is a Hugging Face folder already.")
    _export(subject, out)
    return out


def table(result: Mapping[str, Any]) -> str:
    """The result as text: a line per metric and per task."""
    lines = []
    for name, row in result["losses"].items():
        lines.append(
            f"{name:24} {row['loss']:8.4f}{_error(row['standard_error'])} nats/token  {row['bits_per_byte']:7.4f} bits/byte  "
            f"{row['tokens']:,} tokens"
        )
    for name, task in result["tasks"].items():
        count = f"{task['samples']:,} documents" if task["samples"] is not None else "a group"
        for metric, row in task["metrics"].items():
            lines.append(f"{name:24} {row['value']:8.4f}{_error(row['standard_error'])} {metric}  {count}")
    return "\n".join(lines)


def _error(value: float | None) -> str:
    return f" ± {value:.4f}" if value is not None else " " * 9


# ---- which model -------------------------------------------------------------------------------------------------------


def subject_of(flow: Flow | None, model: str | Path) -> Subject:
    """The model that a path, a run's name or its key means. StudyError where it means none, or a run without checkpoints."""
    path = Path(model)
    if not path.is_dir():
        run = None if flow is None else _run_called(flow.workspace, str(model))
        if run is None:
            known = "" if flow is None else ", nor a run of the study that keeps a checkpoint"
            raise StudyError(f"There is no model {str(model)!r}: it is no folder{known}.")
        path = run.path
    if hf.is_model(path):
        return _folder(flow, path)
    if (path / _STATE).is_file():
        return _checkpoint(flow, path)
    kept = _checkpoints(path)
    if not kept:
        what = "this run keeps none" if (path / MANIFEST).is_file() else "it is no run either"
        raise StudyError(
            f"{path} holds no model: no {hf.CONFIG} (Hugging Face), no {_STATE} (a checkpoint), and {what}. Runs of verify, "
            "branch and train keep checkpoints."
        )
    return _checkpoint(flow, kept[-1])


def _checkpoints(run: Path) -> list[Path]:
    """The checkpoints a run keeps, in time."""
    found = [path for path in run.glob("checkpoint-*") if (path / _STATE).is_file()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def _run_called(workspace: Workspace, name: str) -> Artifact | None:
    """The newest run of that name or key that keeps a checkpoint."""
    for run in workspace.all("runs"):
        named = run.manifest["settings"].get("run", {}).get("run_id")
        if name in (run.key, named) and _checkpoints(run.path):
            return run
    return None


def _checkpoint(flow: Flow | None, folder: Path) -> Subject:
    """A checkpoint of ours: its corpus and window are those of its run, else the study's."""
    run = read_json(folder / _STATE).get("run")
    manifest = folder.parent / MANIFEST
    if manifest.is_file():
        values = read_json(manifest)
        key, seq_len = values["inputs"].get("tokenize"), values["settings"].get("seq_len", _WINDOW)
        corpus = Workspace(folder.parent.parent.parent).find("tokenize", key) if key else None
        if corpus is not None:
            return Subject(folder, corpus, int(seq_len), run)
    return Subject(folder, _corpus(flow), _window(flow), run)


def _folder(flow: Flow | None, folder: Path) -> Subject:
    """A Hugging Face folder: it is measured on the study's corpus, in windows of the study's that it can read."""
    config = hf.read_config(folder)
    origin = read_json(folder / hf.ORIGIN) if (folder / hf.ORIGIN).is_file() else {}
    longest = int(config.get("max_position_embeddings") or _WINDOW)
    return Subject(folder, _corpus(flow), min(_window(flow), longest), origin.get("run"))


def _corpus(flow: Flow | None) -> Artifact | None:
    """The study's tokens, if they are made."""
    if flow is None or "tokenize" not in flow.stages:
        return None
    return flow.workspace.find("tokenize", flow.key("tokenize"))


def _window(flow: Flow | None) -> int:
    return int(getattr(flow.study.trainer, "seq_len", _WINDOW)) if flow is not None else _WINDOW


# ---- measuring -----------------------------------------------------------------------------------------------------------


def _measured(
    flow: Flow | None, subject: Subject, asked: Mapping[str, Any], include: Path | None, how: Mapping[str, Any]
) -> dict[str, Any]:
    """Tasks, which may be named wrongly, and then losses, in a process of their own."""
    from mixwright.train.harness import ENVIRONMENT

    found: dict[str, Any] = {"losses": {}, "tasks": {}}
    with tempfile.TemporaryDirectory(prefix="mixwright-") as aside:
        work: list[Task] = []
        if asked["tasks"]:
            folder = subject.folder if subject.exported else _export(subject, Path(aside) / "model")
            told = {
                "model": str(folder.resolve()), "tasks": asked["tasks"], "limit": asked["limit"], "shots": asked["shots"],
                "seed": asked["seed"], "include": None if include is None else str(include.resolve()), **how,
            }  # fmt: skip
            function = "mixwright.train.harness:tasks_task"
            work.append(Task("tasks", function, told, 2.0, threads=cores(), environment=ENVIRONMENT))
        if subject.corpus is not None:
            told = {
                "model": str(subject.folder.resolve()), "corpus": str(subject.corpus.path.resolve()),
                "seq_len": subject.seq_len, "tokens": asked["tokens"], "device": how["device"],
            }  # fmt: skip
            function = "mixwright.train.held_out:losses_task"
            work.append(Task("losses", function, told, threads=cores(), environment=ENVIRONMENT))
        listener = flow.listener if flow is not None else Listener()
        listener.begin("evaluate", f"measure {subject.folder}", {task.name: task.cost for task in work})
        try:
            outcomes = cast("Generator[Outcome, None, None]", LocalEngine(cores()).run(work, listener.progress))
            with contextlib.closing(outcomes):  # stops what is running, however this ends
                for outcome in outcomes:
                    found[outcome.task.name] = outcome.result()
        finally:
            listener.close()
    return found


def _export(subject: Subject, out: Path) -> Path:
    """The model of a checkpoint as a Hugging Face folder. DataError where its tokenizer is not at hand."""
    from mixwright.train.hf_llama import export_checkpoint

    if subject.corpus is None or not (subject.corpus.path / hf.TOKENIZER).is_file():
        raise DataError(
            f"The tokenizer that {subject.folder} was trained with is not at hand, so it cannot be exported. Leave the "
            "checkpoint in its run's folder, or name its study with --study."
        )
    facts = subject.corpus.json("facts.json")
    export_checkpoint(
        subject.folder, out, tokenizer=subject.corpus.path / hf.TOKENIZER, end_token=facts["end_token"],
        length=subject.seq_len, end=facts["end"],
    )  # fmt: skip
    return out


def _contents(include: Path | None) -> dict[str, str] | None:
    """The checksums of the files of a folder of tasks. StudyError if it is none."""
    if include is None:
        return None
    if not include.is_dir():
        raise StudyError(f"There is no folder of tasks at {include}.")
    files = sorted(path for path in include.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(include)): file_hash(path) for path in files}


def _device(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
