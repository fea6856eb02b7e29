"""Why one row was kept or dropped: the answer of a study's curation, and how a terminal tells it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mixwright.core.errors import MixwrightError, StudyError
from mixwright.curate.tracing import Answer, Judgement, Place, Traces
from mixwright.report.tables import blank_columns, say, short
from mixwright.report.words import MISSING, fixed, whole

if TYPE_CHECKING:
    from mixwright.study.flow import Flow

#: characters of a text that are shown
_SHOWN = 300


@dataclass(frozen=True)
class Reason:
    """An answer with the beginnings of the row's text and its twin's; empty where they cannot be read again."""

    answer: Answer
    start: str = ""
    twin_start: str = ""
    #: what signals have to say about the text themselves: the evaluation item it shares most with
    said: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        more = {"start": self.start, "twin_start": self.twin_start, "said": list(self.said)}
        return dataclasses.asdict(self.answer) | more


def explain(flow: Flow, wanted: str) -> Reason:
    """What became of the row that ``wanted`` names (an id, the beginning of one, or ``path:row``), and why.

    Raises StudyError where it names none or several, or where the study as it stands has not been curated.
    """
    curated = flow.workspace.find("curate", flow.key("curate")) if "curate" in flow.stages else None
    measured = flow.workspace.find("measure", curated.info["measured"]) if curated is not None else None
    if curated is None or measured is None:
        raise StudyError("This study, as it now stands, has not been curated: run mixwright curate first.")
    answer = Traces(curated.path, measured.path, flow.study.curate).answer(wanted)
    twin = answer.twin.place if answer.twin is not None else None
    text = _text(flow, answer.place)
    other = _text(flow, twin) if twin is not None else ""
    return Reason(answer, text[:_SHOWN], other[:_SHOWN], tuple(_said(flow, text)) if text else ())


def _said(flow: Flow, text: str) -> Iterator[str]:
    """What the measured signals that can ``explain`` a text say of it; cost: reading what their options name."""
    for entry in flow.study.curate.measured:
        signal = entry.signal()
        if hasattr(signal, "explain"):
            with TemporaryDirectory() as folder:
                signal.prepare(flow.root, Path(folder))
                said = str(signal.opened(Path(folder)).explain(text))  # type: ignore[attr-defined]
            if said:
                yield f"{entry.name}: {said}"


def _text(flow: Flow, place: Place) -> str:
    """A row's text, read from its source again; empty if that has changed or gone."""
    from mixwright.curate.pipeline import Plan

    if place.index < 0:
        return ""
    study = flow.study
    try:
        shard = Plan.of(study.sources, study.targets, study.curate, flow.root).shards[place.order]
        at = place.index
        for batch in shard.batches():
            if at < len(batch.rows):
                return str(batch.texts[at].as_py()) if batch.path == place.path else ""
            at -= len(batch.rows)
    except (MixwrightError, IndexError):
        pass
    return ""


def shown(reason: Reason) -> RenderableType:
    """The answer for a terminal."""
    answer, place = reason.answer, reason.answer.place
    failed = sum(not judgement.kept for judgement in answer.judgements)
    verdict = ("kept", "green") if answer.kept else (f"dropped: it fails {failed} rule{'s' * (failed != 1)}", "red")
    head = Text.assemble((place.id, "bold"), "  ", verdict)
    where = f"{place.source} (domain {place.domain}), {place.path}:{place.row}"
    lines: list[RenderableType] = [head, Text(where, "dim")]
    if answer.detail:
        lines.append(Text(answer.detail))
    if reason.start:
        lines.append(Text(short(" ".join(reason.start.split()), 200), "italic"))
    lines += [Text(sentence) for sentence in reason.said]
    if answer.judgements:
        lines += ["", _rules(answer)]
    if answer.twin is not None:
        lines += ["", *_twin(reason)]
    if answer.repeated:
        rows = f"{whole(answer.repeated)} row{'s' * (answer.repeated != 1)}"
        lines += ["", Text(f"{rows} dropped as its duplicate{'s' * (answer.repeated != 1)}.")]
    return Group(*lines)


def _rules(answer: Answer) -> Table:
    table = blank_columns("Rules", "rule", "verdict", "value", "must be", "percentile", words=2)
    for judgement in answer.judgements:
        mark = "[green]keeps[/]" if judgement.kept else "[red]fails[/]"
        table.add_row(
            escape(judgement.rule), mark, _value(judgement), escape(judgement.threshold) or MISSING,
            MISSING if judgement.percentile is None else fixed(judgement.percentile, 1),
        )  # fmt: skip
    if any(judgement.percentile is not None for judgement in answer.judgements):
        say(table, f"percentile: where the value stands among the readable rows of {answer.place.domain}")
    return table


def _value(judgement: Judgement) -> str:
    if judgement.value is None:
        return MISSING
    return "not a number" if judgement.value != judgement.value else f"{judgement.value:.6g}"


def _twin(reason: Reason) -> list[RenderableType]:
    twin = reason.answer.twin
    assert twin is not None
    where = "a row of an earlier run" if twin.place is None else (
        f"{twin.place.source}, {twin.place.path}:{twin.place.row}"
    )  # fmt: skip
    alike = "" if twin.similarity is None else f", similarity {fixed(twin.similarity, 4)}"
    lines: list[RenderableType] = [
        Text.assemble("It repeats ", (twin.id, "bold"), f", which is kept: {where}{alike}."),
        Text(f"Cluster {twin.cluster}: {whole(twin.members)} dropped.", "dim"),
    ]
    if reason.twin_start:
        lines.append(Text(short(" ".join(reason.twin_start.split()), 200), "italic"))
    return lines
