"""What was found, in plain words: the sentences at the top of the page and at the end of a run.

Notation: a difference is the objective's loss minus that of the reference (the natural mixture, unless the
study names a current one), nats/token; below zero is better.
All intervals hold 90 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mixwright.report.words import fixed, interval, multiple, percent, scaled, signed

Data = Mapping[str, Any]
Tone = Literal["better", "tie", "worse", "unchecked"]
#: 90 % of a normal distribution lie within so many standard deviations
Z90 = 1.6449
#: what the law must reach on runs it has not seen to be called trustworthy (relative error, rank correlation)
_LARGEST_ERROR, _LEAST_SPEARMAN = 0.015, 0.8
#: with fewer runs held out than this, their errors say nothing of the next
_FEWEST_RUNS = 8
#: the name of the weighted mean of the objective's metrics among scores and forecasts
OBJECTIVE = "objective"


@dataclass(frozen=True)
class Verdict:
    """``headline`` says what to use; ``facts`` are (number, what it is); ``checks`` say how it is known; ``cautions``
    what speaks against it. ``tone`` is better, tie, worse or unchecked.
    """

    headline: str
    tone: Tone
    facts: tuple[tuple[str, str], ...] = ()
    checks: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()


def verdict(data: Data) -> Verdict | None:
    """The verdict on a study, from the report's data; None while there is no optimized mixture."""
    rows = {row["mixture"]: row for row in (data.get("verify") or {}).get("rows", ())}
    if "optimized" in rows and rows["optimized"].get("measured"):
        headline, tone = _measured_headline(data, rows)
    elif data.get("recipe") or "optimized" in (data.get("mixtures") or {}):
        headline, tone = _predicted_headline(data)
    else:
        return None
    return Verdict(headline, tone, _facts(data, rows), _checks(data, rows), _cautions(data, rows))


def reference(data: Data) -> str:
    """The mixture everything is compared with, as the study calls it: natural, current or mean."""
    for row in (data.get("verify") or {}).get("rows", ()):
        if not row.get("measured") and not row.get("predicted"):
            return str(row["mixture"])
    return next((name for name in data.get("mixtures") or {} if name != "optimized"), "natural")


def _places(data: Data) -> str:
    names = [str(name).split(":", 1)[-1] for name in data.get("target_metrics") or ()]
    return _listed(names) if 0 < len(names) <= 4 else "the objective"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _measured_headline(data: Data, rows: Mapping[str, Data]) -> tuple[str, Tone]:
    found = rows["optimized"]["measured"]
    base = reference(data)
    rivals = {
        name: _compare(data, rows["optimized"], row)
        for name, row in rows.items()
        if name not in ("optimized", base) and row.get("measured")
    }
    better = [
        name
        for name, (value, half) in rivals.items()
        if half is not None and value > half and rows[name]["measured"]["high"] < 0
    ]
    if better:
        best = min(better, key=lambda name: float(rows[name]["measured"]["value"]))
        value, half = rivals[best]
        return (
            f"Use the {best} mixture, not the optimized one: its loss on {_places(data)} was measured "
            f"{fixed(value)} nats/token lower ({_range(value, half)}).",
            "worse",
        )
    if found["high"] < 0:
        return (
            f"Use the optimized mixture: its loss on {_places(data)} was measured {fixed(-found['value'])} nats/token "
            f"below the {base} mixture's (90 % interval {fixed(-found['high'])} to {fixed(-found['low'])})."
            + _against(rivals),
            "better",
        )
    if found["low"] > 0:
        return (
            f"Stay with the {base} mixture: the optimized one was measured worse on {_places(data)}, "
            f"by {interval(found)} nats/token.",
            "worse",
        )
    return (
        f"A tie: on {_places(data)} the optimized mixture could not be told from the {base} one. "
        f"The difference is {interval(found)} nats/token.",
        "tie",
    )


def _range(value: float, half: float | None) -> str:
    return f"90 % interval {signed(value - (half or 0))} to {signed(value + (half or 0))}"


def _against(rivals: Mapping[str, tuple[float, float | None]]) -> str:
    """How the optimized mixture did against the others: beaten, tied, or not known."""
    beaten = [f"{name} (by {fixed(-v)})" for name, (v, half) in rivals.items() if half is not None and -v > half]
    tied = [f"{name} ({signed(v)}; {_range(v, h)})" for name, (v, h) in rivals.items() if h is not None and abs(v) <= h]
    unknown = [name for name, (_, half) in rivals.items() if half is None]
    return (
        (f" It also beats {_listed(beaten)}." if beaten else "")
        + (f" Against {_listed(tied)} it is a tie." if tied else "")
        + (f" Whether it differs from {_listed(unknown)} is not known: no noise was measured." if unknown else "")
    )


def _compare(data: Data, one: Data, other: Data) -> tuple[float, float | None]:
    """Measured objective of ``one`` minus that of ``other``, and half the 90 % interval (None without a noise)."""
    value = float(one["measured"]["value"]) - float(other["measured"]["value"])
    noise = data["verify"].get("objective_noise")
    if not noise or not math.isfinite(noise):
        return value, None
    seeds = [max(1, len(row.get("per_seed") or data["verify"].get("seeds") or [0])) for row in (one, other)]
    return value, _quantile(data) * float(noise) * math.sqrt(1 / seeds[0] + 1 / seeds[1])


def _quantile(data: Data) -> float:
    """Half-width of a 90 % interval in standard deviations: Student's where these were estimated from few seeds."""
    from scipy import stats

    freedom = data["verify"].get("noise_freedom") or 0
    return float(stats.t.ppf(0.95, freedom)) if freedom > 0 else Z90


def _predicted(data: Data) -> Data | None:
    for forecast in (data.get("recipe") or {}).get("forecasts", ()):
        if forecast["kind"] == "difference":
            return dict(forecast)
    return None


def _predicted_headline(data: Data) -> tuple[str, Tone]:
    expected = _predicted(data)
    if not expected:
        return "An optimized mixture was computed; no larger run has checked it.", "unchecked"
    where = "the objective" if expected["metric"] == OBJECTIVE else expected["metric"]
    return (
        f"The optimized mixture is predicted to change the loss on {where} by {interval(expected)} "
        f"{expected.get('unit', 'nats/token')} against {expected.get('reference') or 'the reference'}. "
        "No larger run has checked it.",
        "unchecked",
    )


def _facts(data: Data, rows: Mapping[str, Data]) -> tuple[tuple[str, str], ...]:
    facts = []
    base = reference(data)
    row = rows.get("optimized", {})
    expected = row.get("predicted") or _predicted(data)
    if row.get("measured"):
        facts.append((signed(row["measured"]["value"]), f"nats/token against {base}, measured"))
    if expected:
        facts.append(
            (
                signed(expected["value"]),
                f"nats/token against {base}, predicted" + (" before" if row.get("measured") else ""),
            )
        )
    if row.get("measured"):
        share = row.get("steps_share")
        facts.append(
            (percent(share, 0), f"of the steps to reach {base}'s final loss")
            if share is not None
            else ("never", f"reaches {base}'s final loss")
        )
    score = _score(data, "nested")
    if score:
        facts.append((percent(score["relative"], 2), "error of the law on runs it had not seen"))
    most = max((data.get("recipe") or {}).get("epochs", {}).items(), key=lambda item: item[1], default=None)
    if most:
        facts.append((fixed(most[1], 2), f"epochs of {most[0]}, the most repeated domain"))
    return tuple(facts)


def _score(data: Data, form: str) -> Data | None:
    scores = ((data.get("validation") or {}).get("scores") or {}).get(form) or {}
    found = scores.get(OBJECTIVE)
    return found if found and found.get("relative") is not None else None


def _checks(data: Data, rows: Mapping[str, Data]) -> tuple[str, ...]:
    sentences = []
    verify = data.get("verify")
    if verify and rows:
        noise = verify.get("objective_noise")
        seeds = len(verify.get("seeds") or ())
        sentences.append(
            f"{len(rows)} mixtures were trained at {verify['size']} ({scaled(verify['params'])} parameters outside the "
            f"embeddings) on {scaled(verify['tokens'])} tokens, with {seeds} seed{'s' if seeds != 1 else ''} each. "
            + (
                f"Between seeds the objective scatters by {fixed(noise, 4)} (standard deviation)."
                if noise
                else "The scatter between seeds was not measured."
            )
        )
        sentences.extend(_foresight(rows))
    score = _score(data, "nested")
    if score:
        runs = [run for run in data.get("runs") or () if run.get("role") in ("design", "repeat")]
        others = [f"{form} {percent(s['relative'], 2)}" for form in ("linear", "mean") if (s := _score(data, form))]
        sentences.append(
            f"The law was fitted on {sum(run['status'] == 'done' for run in runs) or 'the given'} runs. "
            f"On runs it had not seen its relative error on the objective was {percent(score['relative'], 2)}"
            + (f" ({', '.join(others)})" if others else "")
            + (f", its rank correlation {fixed(score['spearman'], 2)}." if score.get("spearman") is not None else ".")
        )
    return tuple(sentences)


def _foresight(rows: Mapping[str, Data]) -> list[str]:
    sentences = []
    row = rows.get("optimized", {})
    if row.get("predicted") and row.get("measured"):
        inside = row["predicted"]["low"] <= row["measured"]["value"] <= row["predicted"]["high"]
        sentences.append(
            f"Before those runs the law had predicted {interval(row['predicted'])} for the optimized mixture; "
            f"measured was {interval(row['measured'])}, {'inside' if inside else 'outside'} that interval."
        )
    ranks = [(row["rank_predicted"], row["rank_measured"]) for row in rows.values() if row.get("rank_predicted")]
    if len(ranks) > 1:
        same = all(one == other for one, other in ranks)
        sentences.append(
            f"The predicted order of the {len(ranks)} mixtures {'was' if same else 'was not quite'} the measured one."
        )
    return sentences


def _cautions(data: Data, rows: Mapping[str, Data]) -> tuple[str, ...]:
    faults = weak_law(data)
    sentences = []
    if faults:
        weak = f"The law is weak on these runs: {'; '.join(faults)}."
        sentences.append(f"{weak} Trust what was measured more than what it predicts.")
    worst = _dearest(data, rows)
    if worst:
        metric, value, noise = worst
        sentences.append(
            f"It pays elsewhere: the loss on {metric} rises by {fixed(value)} nats/token"
            + (f", {multiple(value, noise)} the noise." if noise else ".")
        )
    runs: Sequence[Data] = data.get("runs") or ()
    failed = [run for run in runs if run["status"] != "done"]
    if failed:
        sentences.append(f"{len(failed)} of {len(runs)} runs failed and took no part in the fit.")
    return tuple(sentences)


def weak_law(data: Data) -> list[str]:
    """What speaks against the law's predictions of unseen runs; nothing if they are good enough to choose by."""
    score = _score(data, "nested")
    if not score:
        return []
    rivals = {form: float(s["relative"]) for form in ("linear", "mean") if (s := _score(data, form))}
    beaten = [form for form, error in rivals.items() if error <= score["relative"]]
    faults = []
    if score["relative"] > _LARGEST_ERROR:
        faults.append(f"its relative error is above {percent(_LARGEST_ERROR)}")
    if beaten:
        names = {"linear": "linear regression", "mean": "predicting the mean"}
        faults.append(f"{' and '.join(names[form] for form in beaten)} did as well or better")
    held = (data["validation"].get("held_out") or {}).get(OBJECTIVE) or {}
    if 0 < len(held) < _FEWEST_RUNS:
        faults.append(f"only {len(held)} runs say so")
    if score.get("spearman") is not None and score["spearman"] < _LEAST_SPEARMAN:
        faults.append(f"its rank correlation is below {_LEAST_SPEARMAN}")
    return faults


def _dearest(data: Data, rows: Mapping[str, Data]) -> tuple[str, float, float | None] | None:
    """The off-target metric that the optimized mixture raises most above the reference, its rise and the noise."""
    best, base = rows.get("optimized", {}).get("losses"), rows.get(reference(data), {}).get("losses")
    if not best or not base:
        return None
    targets = set(data.get("target_metrics") or ())
    rises = {metric: best[metric] - base[metric] for metric in best if metric in base and metric not in targets}
    metric = max(rises, key=lambda name: rises[name], default=None)
    noise = (data["verify"].get("noise") or {}).get(metric)
    if metric is None or rises[metric] <= Z90 * (noise or 0):
        return None
    return metric, rises[metric], noise
