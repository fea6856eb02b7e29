"""What the bench leaves behind: the summary on the screen, ``benchmarks/results/laws.json`` and its table in the docs."""

from benchmarks.laws.scores import Result
from benchmarks.laws.work import Workshop


def summary(results: dict[str, Result]) -> None:
    """Every row with a goal, met or missed, and the coverage of all checks."""
    rows = [row for result in results.values() for row in result.rows]
    for row in rows:
        values = row.to_dict()
        if row.met is not None:
            print(
                f"{'met   ' if row.met else 'MISSED'} {row.what}: {values['ours']} (goal {values['goal']}) {row.note}"
            )
    judged = [row for row in rows if row.met is not None]
    print(f"{sum(bool(row.met) for row in judged)} of {len(judged)} goals met")
    for covered in (c for result in results.values() for c in result.covered):
        low, high = covered.interval()
        print(
            f"  90 % intervals, {covered.what}: {covered.inside} of {covered.total} = {covered.share:.3f} [{low:.3f}, {high:.3f}]"
        )


def keep(results: dict[str, Result], shop: Workshop) -> None:
    """Write the result file and the docs (a part of the groups replaces only its own rows)."""
