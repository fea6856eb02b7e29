"""Every run in the tools people know: TensorBoard's event files, and runs of MLflow's local file store.

Written in the sweep's process from what it hears, so every trainer's runs are there, several at once. Under ``folder``:

    tensorboard/<run id>/    scalars ``train/loss``, ``train/lr``, ``train/tokens_per_second`` at their step, ``loss/<metric>``
                             (nats/token) along the run and at its end, ``bpb/<metric>``; settings and status as hparams
    mlflow/                  the same as metrics, params and status; one experiment for the study
    logged.json              which runs are there, so that a run that is only found again is not logged again

A run that is trained anew gets a log of its own (``<run id>@2``); one that was interrupted goes on in its old one.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mixwright.core.observation import DONE
from mixwright.core.run import Run
from mixwright.store.artifact import read_json, write_json
from mixwright.train.sweep import Finished
from mixwright.train.trainer import FACTS, TRAJECTORY

#: facts of a progress event that become scalars
_LIVE = ("loss", "lr", "tokens_per_second")
#: seconds between two points of one run
_EVERY = 1.0
#: what one call may hold (MLflow's REST limits, which its file store keeps)
_METRICS, _PARAMS = 1000, 100
_INDEX = "logged.json"

#: (name, step, value)
Point = tuple[str, int, float]


class RunLogs:
    """Logs of runs under ``folder``: ``progress`` while they train, ``done`` when they end, ``close`` after the last.

    ModuleNotFoundError where tensorboard or mlflow is asked for and not installed (the extra ``logs`` has both).
    """

    def __init__(self, folder: Path, *, tensorboard: bool, mlflow: bool, experiment: str = "mixwright") -> None:
        self._folder = folder
        self._sinks: list[_TensorBoard | _MLflow] = []
        if tensorboard:
            self._sinks.append(_TensorBoard(folder / "tensorboard"))
        if mlflow:
            self._sinks.append(_MLflow(folder / "mlflow", experiment))
        index = folder / _INDEX
        known = read_json(index) if index.is_file() else {}
        self._logged = {name: _Log(**values) for name, values in known.items()}
        self._heard: dict[str, _Heard] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def progress(self, run_id: str, fraction: float, facts: Mapping[str, Any]) -> None:
        """Log a run's loss, learning rate and tokens/s where ``facts`` name them and their ``step``; once a second."""
        step = facts.get("step")
        points = [(f"train/{name}", int(step), float(facts[name])) for name in _LIVE if name in facts] if step else []
        if not points or not self._sinks:
            return
        heard = self._heard.setdefault(run_id, _Heard())
        now = time.monotonic()
        if now - heard.last < _EVERY or points[0][1] <= heard.step:
            return
        if not heard.names:
            self._open(run_id, heard, points[0][1])
        heard.last, heard.step = now, points[0][1]
        for sink, name in heard.names:
            sink.points(name, points)

    def done(self, finished: Finished) -> None:
        """Log how a run ended: its curves, losses, settings and status; nothing if that is logged already."""
        run_id, key = finished.run.run_id, finished.artifact.key
        before, heard = self._logged.get(run_id), self._heard.pop(run_id, _Heard())
        if not self._sinks or (before is not None and before.key == key and self._complete(before)):
            return
        if not heard.names:
            self._open(run_id, heard, 0)
        points = list(_points(finished, live=heard.step > 0))
        settings = settings_of(finished.run) | {"key": key}
        for sink, name in heard.names:
            sink.points(name, points)
            sink.end(name, settings, finished.observation.status, finished.observation.reason)
        self._logged[run_id].key = key
        self._remember()

    def close(self) -> None:
        """Write what is still held back; logs of runs that have not ended stay open to the next process."""
        for sink in self._sinks:
            sink.close()
        self._heard.clear()

    def _complete(self, log: _Log) -> bool:
        """Whether every tool that is wanted has the run."""
        return all(sink.tool in log.names for sink in self._sinks)

    def _open(self, run_id: str, heard: _Heard, step: int) -> None:
        """Begin a run's log, or go on with the one that an interrupted process began."""
        log = self._logged.setdefault(run_id, _Log())
        if log.key and self._complete(log):  # that one ended: this is another training
            log.number, log.key, log.names = log.number + 1, "", {}
        label = run_id if log.number == 1 else f"{run_id}@{log.number}"
        for sink in self._sinks:
            log.names[sink.tool] = sink.begin(label, log.names.get(sink.tool), step)
            heard.names.append((sink, log.names[sink.tool]))
        self._remember()

    def _remember(self) -> None:
        known = {name: {"number": log.number, "key": log.key, "names": log.names} for name, log in self._logged.items()}
        write_json(self._folder / _INDEX, known)


@dataclass
class _Log:
    """A run's log: the ``number`` of the training, its artifact's ``key`` once it ended, its name in each tool."""

    number: int = 1
    key: str = ""
    names: dict[str, str] = field(default_factory=dict)


@dataclass
class _Heard:
    """What this process has heard of a run: when, up to which step, and where it is written."""

    last: float = -math.inf
    step: int = 0
    names: list[tuple[_TensorBoard | _MLflow, str]] = field(default_factory=list)


def settings_of(run: Run) -> dict[str, str | float | int]:
    """What a run was asked to be, flat: model, tokens, seed, role, and the weight of each domain in each phase."""
    told: dict[str, str | float | int] = {
        "size": str(run.size), "params": run.size.params, "tokens": run.schedule.tokens, "seed": run.seed, "role": run.role,
        "subsample": run.subsample,
    }  # fmt: skip
    if run.parent is not None:
        told |= {"parent": run.parent, "parent_tokens": run.parent_tokens}
    for number, phase in enumerate(run.schedule.phases, 1):
        at = "" if number == 1 else f"@{number}"
        told |= {f"weight{at}/{name}": weight for name, weight in phase.mixture.to_dict().items()}
        if len(run.schedule.phases) > 1:
            told[f"tokens@{number}"] = phase.tokens
    return told


def _points(finished: Finished, *, live: bool) -> Iterator[Point]:
    """A finished run's curves: training losses unless they were heard ``live``, losses along the way and at the end."""
    observation, artifact = finished.observation, finished.artifact
    if not live:
        for step, loss in artifact.json(FACTS).get("train_losses", ()):
            yield "train/loss", int(step), float(loss)
    a_step = observation.step / observation.tokens if observation.tokens else 0.0
    for point in artifact.json(TRAJECTORY):
        if point["tokens"] < observation.tokens:
            for name, loss in point["losses"].items():
                yield f"loss/{name}", round(point["tokens"] * a_step), float(loss)
    if observation.status == DONE:
        for kind, values in (("loss", observation.losses), ("bpb", observation.bpb)):
            for name, value in values.items():
                yield f"{kind}/{name}", observation.step, value


class _TensorBoard:
    """Event files, a folder per run."""

    tool = "tensorboard"

    def __init__(self, folder: Path) -> None:
        import tensorboard.summary.writer.event_file_writer  # noqa: F401  # missing packages are told at once

        self._folder = folder
        self._writers: dict[str, Any] = {}

    def begin(self, label: str, before: str | None, step: int) -> str:
        """Open a run's folder; what was logged beyond ``step`` by an interrupted process is dropped by the reader."""
        from tensorboard.compat.proto.event_pb2 import SessionLog

        name = before or label
        again = before is not None and (self._folder / name).is_dir()
        writer = self._writer(name)
        if again:
            writer.add_event(_event(step, session_log=SessionLog(status=SessionLog.START)))
        return name

    def points(self, name: str, points: Sequence[Point]) -> None:
        """Write scalars."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        writer = self._writer(name)
        for tag, step, value in points:
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
            writer.add_event(_event(step, summary=summary))

    def end(self, name: str, settings: Mapping[str, str | float | int], status: str, reason: str) -> None:
        """Write settings and status for the hparams page, and close the file."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams import metadata
        from tensorboard.plugins.hparams.api_pb2 import Status
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

        begun = SessionStartInfo()
        for key, value in {**settings, **({"reason": reason} if reason else {})}.items():
            if isinstance(value, str):
                begun.hparams[key].string_value = value
            else:
                begun.hparams[key].number_value = value
        ended = SessionEndInfo(status=Status.STATUS_SUCCESS if status == DONE else Status.STATUS_FAILURE)
        writer = self._writer(name)
        for tag, data in (
            (metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=begun)),
            (metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=ended)),
        ):
            value = Summary.Value(tag=tag, metadata=metadata.create_summary_metadata(data))
            writer.add_event(_event(0, summary=Summary(value=[value])))
        writer.close()
        del self._writers[name]

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _writer(self, name: str) -> Any:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        if name not in self._writers:
            self._writers[name] = EventFileWriter(str(self._folder / name), flush_secs=5)
        return self._writers[name]


def _event(step: int, **content: Any) -> Any:
    from tensorboard.compat.proto.event_pb2 import Event

    return Event(wall_time=time.time(), step=step, **content)


class _MLflow:
    """Runs of a local file store."""

    tool = "mlflow"

    def __init__(self, folder: Path, experiment: str) -> None:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # later versions ask for it
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient

        folder.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(tracking_uri=folder.resolve().as_uri())
        found = self._client.get_experiment_by_name(experiment)
        self._experiment = found.experiment_id if found is not None else self._client.create_experiment(experiment)

    def begin(self, label: str, before: str | None, step: int) -> str:
        """A new run called ``label``, or the one that an interrupted process began; gives MLflow's id of it."""
        from mlflow.exceptions import MlflowException

        if before is not None:
            with contextlib.suppress(MlflowException):  # somebody may have deleted it
                self._client.update_run(before, status="RUNNING")
                return before
        return str(self._client.create_run(self._experiment, run_name=label).info.run_id)

    def points(self, name: str, points: Sequence[Point]) -> None:
        """Write metrics."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(_allowed(tag), value, now, step) for tag, step, value in points]
        for start in range(0, len(metrics), _METRICS):
            self._client.log_batch(name, metrics=metrics[start : start + _METRICS])

    def end(self, name: str, settings: Mapping[str, str | float | int], status: str, reason: str) -> None:
        """Write params and status."""
        from mlflow.entities import Param

        told = {
            _allowed(key): repr(value) if isinstance(value, float) else str(value) for key, value in settings.items()
        }
        params = [Param(key, value) for key, value in told.items()]
        for start in range(0, len(params), _PARAMS):
            self._client.log_batch(name, params=params[start : start + _PARAMS])
        if reason:
            self._client.set_tag(name, "reason", reason)
        self._client.set_terminated(name, "FINISHED" if status == DONE else "FAILED")

    def close(self) -> None:
        """Nothing is held back."""


def _allowed(name: str) -> str:
    """A name that MLflow takes, other characters as ``_``: letters, digits, ``_ - . : /`` and blanks."""
    return re.sub(r"[^\w\-.: /]", "_", name)
