"""One run by our loop and by ``transformers.Trainer``: the same architecture, tokens, precision and thread."""

import statistics
import time
from typing import Any

from benchmarks.laws.scores import Row
from benchmarks.train.case import Case
from benchmarks.train.work import run

#: parameters outside embedding and head -> the shape
SIZES = {"1M": "128x5", "4M": "256x5"}
PRECISIONS = ("bf16", "fp32")
SIDES = ("ours", "trainer")


def cases() -> dict[tuple[str, str, str, bool], Case]:
    """By size, precision, side and whether compiled; those of one comparison follow one another."""
    return {
        (name, precision, side, compiled): Case(
            side, size, vocab=8192, seq_len=256, batch=8, precision=precision, compiled=compiled, steps=8
        )
        for name, size in SIZES.items()
        for precision in PRECISIONS
        for compiled in (False, True)
        for side in SIDES
    }


def rows(rounds: int, until: float) -> list[Row]:
    """Every comparison of which both sides were measured before ``until`` (``time.monotonic``)."""
    wanted = cases()
    found: dict[Any, list[dict[str, Any]]] = {key: [] for key in wanted}
    plain: list[dict[str, Any]] = []
    for number in range(rounds):
        for key, case in wanted.items():
            if time.monotonic() > until:
                break
            found[key].append(run(case))
            print(
                f"  round {number + 1}: {' '.join(map(str, key))}: {found[key][-1]['per_cpu_second']:,.0f}", flush=True
            )
            if number == 0 and key == ("1M", "bf16", "trainer", False):
                plain.append(run(case, allocator=False))
    out = []
    for name in SIZES:
        for precision in PRECISIONS:
            speeds = {
                (side, compiled): [one["per_cpu_second"] for one in found[name, precision, side, compiled]]
                for side in SIDES
                for compiled in (False, True)
            }
            out += _compared(f"{name}, {precision}", speeds)
    return out + _single(found, plain)


def _single(found: dict[Any, list[dict[str, Any]]], plain: list[dict[str, Any]]) -> list[Row]:
    """What compiling takes, and the Trainer as it comes."""
    out = []
    compiled, eager = found["1M", "bf16", "ours", True], found["1M", "bf16", "ours", False]
    if compiled:
        first = statistics.median(one["first"] for one in compiled)
        out.append(Row("1M, bf16: before the first timed step, compiled", "CPU-seconds", first, None))
    if plain and eager:
        what = "1M, bf16: eager against eager, Trainer without our allocator settings"
        ours = statistics.median(one["per_cpu_second"] for one in eager)
        out.append(Row(what, "tokens/CPU-s", ours, None, "Trainer eager", plain[0]["per_cpu_second"]))
    return out


def _compared(what: str, speeds: dict[tuple[str, bool], list[float]]) -> list[Row]:
    """Eager against eager, and ours compiled against both of theirs; nothing of what was not measured."""
    wanted = (
        ("eager against eager", False, False, 1.0, "Trainer eager"),
        ("compiled against eager", True, False, 1.5, "Trainer eager"),
        ("compiled against compiled", True, True, 1.5, "Trainer, torch_compile=True"),
    )
    return [
        _row(f"{what}: {words}", speeds["ours", mine], speeds["trainer", theirs], goal, peer)
        for words, mine, theirs, goal, peer in wanted
        if speeds["ours", mine] and speeds["trainer", theirs]
    ]


def _row(what: str, ours: list[float], theirs: list[float], goal: float, peer: str) -> Row:
    """``ours`` is the median of the ratios within rounds times the peer's median, so that the ratio shown is the paired one."""
    pairs = [mine / yours for mine, yours in zip(ours, theirs, strict=False)]
    ratio, base = statistics.median(pairs), statistics.median(theirs)
    note = f"ratio {ratio:.2f} ({min(pairs):.2f} to {max(pairs):.2f} in {len(pairs)} rounds); goal of the ratio {goal}"
    return Row(what, "tokens/CPU-s", ratio * base, (">=", round(goal * base, 1)), peer, base, note)
