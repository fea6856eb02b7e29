"""The two answers on a terminal: how well the laws predict, and which mixture to use; tables that fit 110 columns.

Notation: a difference is the objective's loss at the proposed mixture minus that at another, nats/token; below zero is
better. Intervals hold 90 %; the chance is that of a difference below zero if errors are normal with that interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.text import Text

from mixwright.report.tables import MANY, blank_columns, missing, short, with_rest
from mixwright.report.verdict import OBJECTIVE, Z90, weak_law
from mixwright.report.words import MISSING, fixed, percent, scaled, signed

Data = Mapping[str, Any]
#: prices and names shown before the rest is counted
_PRICES, _NAMES = 5, 3
#: chances beyond these are called sure
_SURE = 0.995


def fit_table(data: Data) -> RenderableType:
    """Per metric, the objective first: the law chosen, its errors on runs it had not seen, and the seed noise."""
    validation = data.get("validation")
    if not validation:
        return missing("validation")
    own: Mapping[str, Data] = (validation["scores"] or {}).get("nested") or {}
    if not own:
        return Text("No law could be scored on unseen runs.")
    chosen, noise = validation.get("chosen") or {}, data.get("noise") or {}
    repeats = any((noise.get(metric) or {}).get("sd") for metric in noise)
    table = blank_columns(
        "How well unseen runs are predicted", "metric", "law", "error, nats/token", "error", "rank corr.", "in 90 % int.",
        *(["seed noise"] if repeats else []), words=2,
    )  # fmt: skip
    named = [m for m in chosen if m in own] or [m for m in own if m != OBJECTIVE]
    for metric in [*([OBJECTIVE] if OBJECTIVE in own else []), *named[:MANY]]:
        row = own[metric]
        table.add_row(
            escape(metric), escape(str(chosen.get(metric, ""))), fixed(row.get("mae"), 4), percent(row.get("relative"), 2),
            fixed(row.get("spearman"), 2), percent(row.get("coverage"), 0),
            *([fixed((noise.get(metric) or {}).get("sd"), 4)] if repeats else []),
            style="bold" if metric == OBJECTIVE else None,
        )  # fmt: skip
    return _above(with_rest(table, len(named), "metrics"), _how(validation))


def _above(table: RenderableType, words: str) -> RenderableType:
    """A table and a line below it that may be wider."""
    return Group(table, Text(words, "dim italic"))


def _how(validation: Data) -> str:
    """How runs were held out, and what simpler predictions err by."""
    how = str(validation.get("method") or "")
    if validation.get("folds"):
        times = validation.get("repeats", 1)
        how = f"nested cross-validation, {validation['folds']} folds" + (f", {times} times" if times > 1 else "")
    others = []
    for label, words in (("linear", "linear regression"), ("mean", "predicting the mean")):
        mae = ((validation["scores"].get(label) or {}).get(OBJECTIVE) or {}).get("mae")
        others += [f"{words} {fixed(mae, 4)}"] if mae is not None else []
    return how + (f"; error of the objective by {', by '.join(others)}" if others else "")


def fit_verdict(data: Data) -> str:
    """One line: whether the laws are good enough to choose a mixture by."""
    scores = ((data.get("validation") or {}).get("scores") or {}).get("nested") or {}
    own = scores.get(OBJECTIVE) or {}
    if own.get("mae") is None:
        return "How well the laws predict is not known: too few runs to hold any out."
    faults = weak_law(data)
    found = f"error {fixed(own['mae'], 4)} nats/token ({percent(own.get('relative'), 2)})" + (
        f", rank correlation {fixed(own['spearman'], 2)}" if own.get("spearman") is not None else ""
    )
    if faults:
        return f"Weak: on unseen runs, {found}; {'; '.join(faults)}. Mind the intervals."
    return f"Good enough to choose by: on unseen runs, {found}."


def headline(data: Data, name: str) -> str:
    """What to use and how sure that is, in a line or two."""
    gain = (data.get("optimum") or {}).get("gain")
    if not gain:
        return ""
    chance, where = _chance(gain), _where(data)
    by = f"{signed(gain['value'], 4)} nats/token ({signed(gain['low'], 4)} to {signed(gain['high'], 4)})"
    if gain["high"] < 0:
        return f"Use the proposed mixture: its objective is predicted {by} against {name}{where}."
    if gain["value"] == 0 == gain["low"]:
        return f"Stay with the {name} mixture: no allowed one is predicted to be better."
    return (
        f"These runs cannot tell the proposed mixture from {name}: predicted {by}{where}; the chance that it is better is "
        f"{chance}."
    )


def _where(data: Data) -> str:
    for one in (data.get("recipe") or {}).get("forecasts") or ():
        known = [(one.get("params"), "parameters"), (one.get("tokens"), "tokens")]
        words = [f"{scaled(value)} {what}" for value, what in known if value]
        return f", at {' and '.join(words)}" if words else ", at the size of the runs"
    return ""


def mixture_table(data: Data, name: str) -> RenderableType:
    """Per domain, the largest first: weight now and proposed, change, epochs, and the range that is as good."""
    mixtures, domains = data.get("mixtures") or {}, data.get("domains") or ()
    best, base = mixtures.get("optimized"), mixtures.get(name)
    if not best or not base or not domains:
        return missing("mixtures")
    optimum, epochs = data.get("optimum") or {}, (data.get("recipe") or {}).get("epochs") or {}
    ranges: Mapping[str, Sequence[float]] = optimum.get("ranges") or {}
    table = blank_columns(
        "What to use", "domain", name, "use", "change", *(["epochs"] if epochs else []), "as good",
    )  # fmt: skip
    order = sorted(range(len(domains)), key=lambda n: (-best[n], domains[n]))
    for n in order[:MANY]:
        low, high = ranges.get(domains[n], (None, None))
        table.add_row(
            escape(domains[n]), _share(base[n]), f"[bold]{_share(best[n])}[/]",
            signed(100 * (best[n] - base[n]), 1) if abs(best[n] - base[n]) >= 5e-4 else "=",
            *([fixed(epochs.get(domains[n]), 2)] if epochs else []),
            MISSING if low is None or high is None else f"{_share(max(low, 0.0))} to {_share(high)}",
        )  # fmt: skip
    return _above(
        with_rest(table, len(domains), "domains"),
        "% of training tokens; as good: what one domain can have within half the noise, the others adapting",
    )


def _share(weight: float) -> str:
    return "0" if weight < 5e-5 else f"{100 * weight:.1f}"


def contrast_table(data: Data, name: str) -> RenderableType:
    """The objective of the proposed mixture against others: difference, interval, and the chance that it is better."""
    optimum = data.get("optimum") or {}
    gain = optimum.get("gain")
    if not gain:
        return missing("comparison")
    rows = [gain | {"reference": name}, *(row for row in optimum.get("contrasts") or () if row["reference"] != name)]
    table = blank_columns(
        "What it gains: objective, nats/token, less than zero is better", "against", "difference", "90 % interval",
        "chance it is better", "",
    )  # fmt: skip
    for row in rows:
        label = "the worst allowed" if row["reference"] == "worst" else str(row["reference"])
        same = row["value"] == row["low"] == row["high"] == 0
        sure = "better" if row["high"] < 0 else "worse" if row["low"] > 0 else "cannot tell"
        table.add_row(
            escape(label), signed(row["value"], 4), f"{signed(row['low'], 4)} to {signed(row['high'], 4)}",
            MISSING if same else _chance(row), "the same" if same else sure,
        )  # fmt: skip
    return table


def _chance(row: Data) -> str:
    """The chance of a difference below zero."""
    sd = (row["high"] - row["low"]) / (2 * Z90)
    chance = 0.5 * math.erfc(row["value"] / sd / math.sqrt(2)) if sd > 0 else float(row["value"] < 0)
    return "> 99.5 %" if chance > _SURE else "< 0.5 %" if chance < 1 - _SURE else percent(chance, 0)


def reasons(data: Data) -> Iterator[str]:
    """Below the tables: what each limit costs (the dearest), how good the optimum is proven to be, and warnings."""
    optimum = data.get("optimum") or {}
    prices = sorted(optimum.get("prices") or (), key=lambda price: -abs(price["price"]))
    if prices:
        yield "What the limits cost, the dearest first:"
        yield from (f"  {price['words']}" for price in prices[:_PRICES])
        if len(prices) > _PRICES:
            yield f"  and {len(prices) - _PRICES} more, in the report."
    if optimum.get("certificate"):
        yield optimum["certificate"]
    told = ("These runs cannot tell", "The best mixture is the")  # in the tables already
    rest = [
        note for note in optimum.get("notes") or () if not note.startswith(told) and note != optimum.get("certificate")
    ]
    yield from grouped(rest, data.get("metrics") or ())


def front_table(front: Data, name: str) -> RenderableType:
    """Per point of a Pareto front: both losses, their differences to the reference, the exchange rate, the largest weights."""
    first, second = front["names"]
    table = blank_columns(
        f"What {first} and {second} cost one another, nats/token", "", first, f"to {name}", second, f"to {name}", "exchange",
        "largest weights, %",
    )  # fmt: skip
    for number, point in enumerate(front["points"]):
        cells = []
        for value, difference in zip(point["values"], point["differences"], strict=True):
            half = (difference["high"] - difference["low"]) / 2
            cells += [fixed(value, 3), f"{signed(difference['value'], 3)} ±{fixed(half, 3)}"]
        rate = point["exchange"]
        largest = sorted(point["weights"].items(), key=lambda item: -item[1])[:_NAMES]
        table.add_row(
            "knee" if number == front["knee"] else str(number + 1), *cells, "end" if rate is None else f"{rate:.2g}",
            escape(", ".join(f"{short(domain, 12)} {_share(weight)}" for domain, weight in largest)),
            style="bold" if number == front["knee"] else None,
        )  # fmt: skip
    return table


def front_notes(front: Data) -> Iterator[str]:
    """How to read a front, the mixture at its knee, and what to know."""
    first, second = front["names"]
    knee = front["points"][front["knee"]]
    if len(front["points"]) > 1:
        yield f"exchange: by how many nats {first} falls there for every nat that {second} rises."
    weights = sorted(knee["weights"].items(), key=lambda item: -item[1])
    yield "At the knee: " + ", ".join(f"{domain} {_share(weight)} %" for domain, weight in weights if weight >= 5e-4)
    yield from front["notes"]


def grouped(notes: Iterable[str], metrics: Sequence[str]) -> list[str]:
    """Sentences about single metrics that say the same, as one: ``a, b, c and 14 more: fewer runs than domains``."""
    names: dict[str, list[str]] = {}
    for note in notes:
        name = next((m for m in metrics if note.startswith((f"{m}: ", f"{m} is missing in "))), "")
        names.setdefault(note.removeprefix(name), []).append(name)
    out = []
    for rest, several in names.items():
        more = len(several) - _NAMES
        shown = ", ".join(several[:_NAMES]) + (f" and {more} more" if more > 0 else "")
        out.append(shown + (rest.replace(" is missing", " are missing", 1) if len(several) > 1 else rest))
    return out
