"""The report's data, section by section, from the artifacts of a flow (schema ``mixwright/report/1``)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from mixwright.core.observation import Runs
from mixwright.store.artifact import read_json

if TYPE_CHECKING:
    from mixwright.study.flow import Flow

SCHEMA = "mixwright/report/1"


def report_data(flow: Flow) -> dict[str, Any]:
    """Everything the page shows, as plain values; sections a study does not have are left out."""
    from mixwright import __version__
    from mixwright.study import publish

    data: dict[str, Any] = {
        "schema": SCHEMA,
        "title": flow.study.title or flow.root.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "study": flow.study.text,
        "seconds": {s: flow.make(s).info.get("seconds") for s in flow.stages if s != "report"},
        "files": publish.files(flow),
    }
    if flow.study.runs is None:
        summary = flow.make("curate").json("summary.json")
        data |= sources(summary) | {"corpus": corpus(flow), "tokenizer": tokenizer(flow)}
    data |= runs(flow) | fitted(flow) | optimum(flow)
    if "verify" in flow.stages:
        data["verify"] = verified(flow)
    if "branch" in flow.stages:
        data["final_phase"] = final_phase(flow)
    recipe = publish.recipes(flow)["recipe"]
    data["recipe"] = recipe.to_dict()
    data["notes"] = [*recipe.notes, *data["validation"]["notes"]]
    return data


def sources(summary: Mapping[str, Any]) -> dict[str, Any]:
    """``sources``, ``targets``, ``rules``, ``samples``, ``overlap``, ``duplicates`` and ``agreement`` (of votes)
    from curation's summary; what is counted
    per source (``first_dropped``, ``alone``, ``stages``) stands with it."""
    counted = ("first_dropped", "alone", "stages")

    def rows(kind: str) -> list[dict[str, Any]]:
        of = {key: summary.get(key, {}) for key in counted}
        return [
            {"name": name, **row, **{key: of[key].get(name, [] if key == "stages" else {}) for key in counted}}
            for name, row in summary[kind].items()
        ]

    return {
        "sources": rows("sources"),
        "targets": rows("targets"),
        "rules": summary["rules"],
        "samples": summary.get("samples", []),
        "overlap": summary.get("overlap", []),
        "duplicates": summary.get("duplicates"),
        "agreement": summary.get("votes") or {},
    }


def corpus(flow: Flow) -> list[dict[str, Any]]:
    """One row per domain: training tokens, bytes, documents, held-out tokens."""
    metrics = flow.make("tokenize").json("metrics.json")
    return [
        {
            "domain": domain.name,
            "tokens": domain.tokens,
            "bytes": domain.bytes,
            "documents": domain.documents,
            "held_out_tokens": metrics[f"val:{domain.name}"]["tokens"],
        }
        for domain in flow.corpus.domains
    ]


def tokenizer(flow: Flow) -> dict[str, Any]:
    """Vocabulary and hash."""
    return {"vocab": flow.corpus.vocab, "hash": flow.corpus.tokenizer}


def runs(flow: Flow) -> dict[str, Any]:
    """``domains``, ``metrics``, the objective's weights, every run, and the noise."""
    table = flow.table
    weights = table.mixtures()
    return {
        "domains": list(table.domains),
        "metrics": list(table.metrics),
        "target_metrics": list(flow.metric_weights),
        "metric_weights": flow.metric_weights,
        "runs": [
            {
                "run_id": table.run_id[n],
                "role": table.role[n],
                "weights": weights[n].tolist(),
                "losses": _row(table, table.losses, n),
                "bpb": _row(table, table.bpb, n),
                "unigram": _row(table, table.unigram, n),
                "status": table.status[n],
                "reason": _reasons(flow).get(table.run_id[n], ""),
                "seed": table.seed[n],
                "params": _plain(table.params[n]),
                "tokens": _plain(table.tokens[n]),
            }
            for n in range(len(table))
        ],
        "noise": noise(flow.fitted_on),
    }


def noise(table: Runs) -> dict[str, dict[str, Any]]:
    """Seed noise per metric, from runs of one mixture with different seeds; None where there are none."""
    from mixwright.laws import seed_noise

    usable = table.usable()
    found = seed_noise(usable)
    return {m: {"sd": _plain(found.sd[i]), "runs": int(found.runs[i])} for i, m in enumerate(usable.metrics)}


def fitted(flow: Flow) -> dict[str, Any]:
    """The fit at its target with its graph, and how it did on runs it had not seen."""
    artifact = flow.make("fit")
    return {
        "validation": artifact.json("validation.json"),
        "fit": flow.repeating(flow.budget_tokens).to_dict(),
        "metrics": list(flow.table.metrics),
        "target_metrics": list(flow.metric_weights),
        "metric_weights": flow.metric_weights,
    }


def optimum(flow: Flow) -> dict[str, Any]:
    """The objective, its bounds, the mixtures compared, and the optimum with its reasons."""
    recipe = flow.recipe
    domains = recipe.schedule.domains
    objective = flow.study.objective.over(domains)
    supply = np.array([float(flow.supply[name]) for name in domains]) if flow.supply else None
    low, high = objective.bounds(domains, flow.budget_tokens, supply)
    return {
        "domains": list(domains),
        "objective": objective.to_dict(),
        "bounds": {"low": low.tolist(), "high": high.tolist()},
        "mixtures": {name: mixture.weights.tolist() for name, mixture in flow.mixtures().items()},
        "optimum": flow.make("optimize").json("optimum.json"),
        "recipe": recipe.to_dict(),
    }


def verified(flow: Flow) -> dict[str, Any]:
    """Predicted against measured at the larger size."""
    section: dict[str, Any] = flow.make("verify").json("verify.json")
    return section | {"domains": list(flow.corpus.names), "metric_weights": flow.metric_weights}


def final_phase(flow: Flow) -> dict[str, Any]:
    """What switching the mixture at the end gained and cost."""
    section: dict[str, Any] = flow.make("branch").json("final_phase.json")
    return section | {"domains": list(flow.corpus.names)}


def _reasons(flow: Flow) -> dict[str, str]:
    if flow.study.runs is not None:
        return {}
    rows = read_json(flow.make("sweep").path / "observations.json")
    return {row["run"]["run_id"]: row["reason"] for row in rows}


def _row(table: Runs, values: Any, n: int) -> dict[str, float]:
    return {m: float(values[n, i]) for i, m in enumerate(table.metrics) if np.isfinite(values[n, i])}


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
