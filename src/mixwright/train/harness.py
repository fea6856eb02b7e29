"""Tasks of the lm-evaluation-harness on a model folder: those it comes with, and those of local YAML and JSON lines.

Notation
    l_i, w_i  log likelihood in nats and weight (bytes or words) of document i of n
    r         -sum l / sum w, what a perplexity-like metric is a function of

The harness gives no standard errors for r (bits per byte, byte and word perplexity). They follow from the documents by
linearization: se(r)^2 = n/(n-1) sum (l_i + r w_i)^2 / (sum w)^2 (Cochran 1977, Sampling Techniques, section 6.4), times the
slope of the metric in r.
"""

from __future__ import annotations

import contextlib
import difflib
import fnmatch
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mixwright.core.errors import DataError, StudyError

#: what the process of ``tasks_task`` is started with: nothing is drawn on a terminal, no pool of processes is forked
ENVIRONMENT = {
    "TQDM_DISABLE": "1",
    "DISABLE_MULTIPROC": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
#: resamples of the harness for metrics whose standard errors it takes from them (its own default is 100,000)
_RESAMPLES = 1000
#: metrics of r: the value and its slope, from r in nats per unit of weight
_RATIOS: Mapping[str, Callable[[float], float]] = {
    "bits_per_byte": lambda r: 1 / math.log(2),
    "byte_perplexity": math.exp,
    "word_perplexity": math.exp,
}


def tasks_task(
    progress: Callable[..., None],
    *,
    model: str,
    tasks: Sequence[str],
    include: str | None,
    limit: int | None,
    shots: int | None,
    batch: int,
    device: str,
    seed: int,
) -> dict[str, Any]:
    """What ``tasks`` measure on the Hugging Face ``model`` folder: {task: {metrics, samples, shots}}, groups among them.

    ``include`` is a folder of task files, read before the harness' own; relative data files in them lie in it. ``limit``
    takes so many documents of each task (None: all), ``shots`` so many examples (None: as the task says). StudyError for a
    task that is not there or a file that cannot be read, DataError for data that cannot. Cost: the model over all
    documents; a second for the harness, ten more for its own list of tasks.
    """
    import lm_eval
    from lm_eval.tasks import TaskManager

    place = None if include is None else Path(include).resolve()
    local = _local_tasks(place) if place is not None else set()
    known = all(name in local for name in tasks)
    manager = TaskManager(include_path=str(place) if place else None, include_defaults=not known)
    names = _chosen(tasks, manager.all_tasks)
    with contextlib.chdir(place or Path.cwd()):
        for number, name in enumerate(names):
            progress(0.1 * number / len(names))
            _check_data(manager, name)
        found = lm_eval.simple_evaluate(
            "hf", model_args={"pretrained": model, "dtype": "float32"}, tasks=names, num_fewshot=shots, batch_size=batch,
            device=device, limit=limit, task_manager=manager, bootstrap_iters=_RESAMPLES, random_seed=seed,
            numpy_random_seed=seed, torch_random_seed=seed, fewshot_random_seed=seed,
        )  # fmt: skip
    progress(1.0)
    return {
        name: _task(name, values, found) for name, values in {**found["results"], **found.get("groups", {})}.items()
    }


def _local_tasks(folder: Path) -> set[str]:
    """The names that the task files in a folder give. StudyError for no folder, no task, or a file that is no YAML."""
    from lm_eval.tasks._yaml_loader import load_yaml

    if not folder.is_dir():
        raise StudyError(f"There is no folder of tasks at {folder}.")
    found: set[str] = set()
    for file in sorted(folder.rglob("*.yaml")):
        try:
            values = load_yaml(file, resolve_func=False)
        except Exception as error:  # the loader raises what YAML, files and its own includes raise
            what = " ".join(str(error).split())
            raise StudyError(f"The task file {file} cannot be read: {what}.") from error
        if isinstance(values, dict):
            found |= {str(values[key]) for key in ("task", "group", "tag") if isinstance(values.get(key), str)}
    if not found:
        raise StudyError(f"{folder} holds no task: a task is a .yaml file that says task: NAME.")
    return found


def _chosen(wanted: Sequence[str], known: Sequence[str]) -> list[str]:
    """The tasks that names and patterns (``mmlu_*``) mean. StudyError, with the nearest name, for one that means none."""
    found: list[str] = []
    for name in wanted:
        hits = [name] if name in known else fnmatch.filter(known, name)
        if not hits:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            listed = f" There are: {', '.join(known)}." if len(known) <= 20 else ""
            raise StudyError(
                f"There is no task {name!r}.{hint}{listed} A task of your own is a YAML file in the folder of --include."
            )
        found += hits
    return list(dict.fromkeys(found))


def _check_data(manager: Any, name: str) -> None:
    """DataError where a task's data cannot be had."""
    try:
        manager.load([name])
    except Exception as error:  # whatever datasets, its builders and the hub raise
        root: BaseException = error
        while root.__cause__ is not None:
            root = root.__cause__
        what = " ".join(str(root).split())[:300] or type(root).__name__
        raise DataError(
            f"The data of task {name} cannot be loaded: {what.rstrip('.')}. Data of its own lies beside its file; anything else "
            "comes from the hub, which must be reachable or have been before."
        ) from error


def _task(name: str, values: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """One task's metrics with standard errors (None where there is none), documents, and shots."""
    better = found.get("higher_is_better", {}).get(name, {})
    samples = found.get("samples", {}).get(name, ())
    metrics = {}
    for key, value in values.items():
        metric, comma, kind = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, (int, float)):
            continue
        error = values.get(f"{metric}_stderr,{kind}")
        if not isinstance(error, (int, float)):
            error = _standard_error(metric, [row[metric] for row in samples if metric in row])
        shown = metric if kind == "none" else f"{metric} ({kind})"
        metrics[shown] = {"value": float(value), "standard_error": error, "higher_is_better": better.get(metric)}
    count = found.get("n-samples", {}).get(name, {}).get("effective")
    return {"metrics": metrics, "samples": count, "shots": found.get("n-shot", {}).get(name)}


def _standard_error(metric: str, rows: Sequence[Any]) -> float | None:
    """See the notation; None for other metrics, and for fewer than two documents."""
    if metric not in _RATIOS or len(rows) < 2:
        return None
    likelihood, weight = np.array(rows, dtype=np.float64).T
    r = -likelihood.sum() / weight.sum()
    n = len(rows)
    error = math.sqrt(n / (n - 1) * np.sum((likelihood + r * weight) ** 2)) / weight.sum()
    return float(error * _RATIOS[metric](r))
