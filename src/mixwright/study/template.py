"""Study files written for a user: from a folder of data, from a table of runs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mixwright.core.errors import DataError, StudyError
from mixwright.store.artifact import write_atomic
from mixwright.store.documents import SourceFile, SourceOptions, find_files
from mixwright.store.streams import DamagedStream, LongLine, Meter, chunks, lines

#: folders of this name hold targets: text that is never trained on
TARGETS = ("targets", "target", "validation", "valid", "eval", "test")
#: fields that usually hold the text, the likeliest first
_NAMES_OF_TEXT = ("text", "content", "body", "document", "markdown", "output")


@dataclass(frozen=True)
class Found:
    """A source found in a folder: where, in which format, under which field, how many bytes on disk.

    ``format`` is ``auto`` where the files' names tell it, ``text`` for a folder of other text files (code, say).
    """

    name: str
    path: str
    field: str
    bytes: int
    format: str = "auto"


#: what the study says of curation unless it comes from somewhere else
_CURATE = """\
curate:
  dedup: {exact: true, near: true}   # near: Jaccard of word 5-grams >= .8, verified; every dropped row names its kept twin
  # presets: [gopher, c4, fineweb]   # whole sets of published thresholds; also code, bettermixture
  rules:                      # a signal measures, these thresholds decide; every dropped row is in the ledger
    chars: {min: 200}
    alnum_ratio: {min: 0.25}
    duplicate_line_ratio: {max: 0.9}
  # keep: "lang_score > 0.65 and lang == 'en'"
  # rewrite: {mask: {}}         # e-mail addresses, phone numbers, keys ... become <email>, <phone>, <secret>
"""


def init(folder: Path, file: Path, curate: str = _CURATE) -> str:
    """Write a commented study for the data in ``folder`` to ``file``; returns its text. ``curate`` is that section of it.

    Every readable file or subfolder at the top of ``folder`` becomes a source; a subfolder called ``targets`` (or
    ``validation``, ``valid``, ``eval``, ``test``) holds targets. StudyError if ``file`` exists, DataError if there is
    nothing to read.
    """
    if file.exists():
        raise StudyError(f"{file} exists already; remove it or choose another place with --study PATH.")
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. Give the folder that holds your text files.")
    passed: list[str] = []
    sources = list(_sources(folder, file.resolve().parent, passed))
    targets = [
        found
        for name in TARGETS
        if (folder / name).is_dir()
        for found in _sources(folder / name, file.resolve().parent, passed)
    ]
    if not sources:
        raise DataError(
            f"{folder} holds no file mixwright reads. It takes JSONL and text (.jsonl, .json, .txt, .md, also .gz and .zst) and "
            ".parquet, at the top of the folder or in one subfolder per domain."
        )
    text = _study(folder.resolve().name, sources, targets, passed, curate)
    write_atomic(file, text)
    return text


def table_study(table: Path, file: Path, options: Mapping[str, Any]) -> str:
    """Write a commented study for someone who has only a table of runs; returns its text."""
    extra = "".join(f"  {key}: {_quoted(value)}\n" for key, value in options.items())
    path = os.path.relpath(table, file.resolve().parent)
    text = f"""\
# A study that starts from a finished table of runs. Commands: mixwright fit, mixwright optimize, mixwright run.
schema: mixwright/study/1
title: {_quoted(table.stem)}

runs:
  path: {_quoted(path)}
{extra}  # own: {{}}             # {{metric: domain or [domains]}} where names do not tell; more settings: docs/formats.md
  # supply: {{}}          # {{domain: unique tokens}}: with it and budget.tokens, epochs are known and count
  # older: []           # [{{path: before.csv, changes: {{split, merged, added, removed, revised}}}}]: docs/changing-domains.md

# What you train on today, {{domain: weight}}; gains are measured against it. Without it: the mean mixture of the table.
# current: {{}}

law:
  form: auto            # per metric, the first below unless another predicts held-out runs clearly better; or, for runs of
                        # several sizes or checkpoints: nested, joint, transfer (docs/verbs/fit.md)
  forms: [hierarchical, additive, exponential]
  repeats: 1            # of the cross-validation: one is enough for a large table, three are steadier for a small one

objective:
  metrics: {{}}           # {{metric: weight}}; empty: the mean of all metrics in the table
  # floors: 0.01        # the least weight of every domain, or {{domain: weight}}
  # ceilings: {{}}        # the most

# budget:
#   tokens: 1000000000  # the run the recipe is for; without it no phase lengths can be written
export: [megatron, hf]
seed: 0
"""
    write_atomic(file, text)
    return text


def _sources(folder: Path, base: Path, passed: list[str]) -> Iterator[Found]:
    """The sources at the top of ``folder``; names of what is not read here are added to ``passed``."""
    seen: dict[str, int] = {}
    for child in sorted(folder.iterdir()):
        mine = child.name in ("study.yaml", "recipe.yaml", "runs.csv", "work", "export")
        if child.name.startswith((".", "_")) or mine or (child.is_dir() and child.name in TARGETS):
            continue
        files, form = _files(child, base)
        if not files:
            passed.append(child.name)
            continue
        name = child.name.split(".")[0] if child.is_file() else child.name
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            name = f"{name}_{seen[name]}"
        yield Found(name, os.path.relpath(child, base), _field(files[0]), sum(file.bytes for file in files), form)


def _files(child: Path, base: Path) -> tuple[tuple[SourceFile, ...], str]:
    """The files of a source and their format; none where nothing is read. Any folder of UTF-8 files is text."""
    try:
        return find_files(SourceOptions(str(child.resolve())), base)[0], "auto"
    except DataError:
        pass
    if child.is_dir():
        try:
            files, _ = find_files(SourceOptions(str(child.resolve()), format="text"), base)
            start = files[0].path.read_bytes()[:4096]
            if b"\0" not in start and start.decode("utf-8", "ignore").encode()[:4000] == start[:4000]:
                return files, "text"
        except (DataError, OSError):
            pass
    return (), "auto"


def _field(file: SourceFile) -> str:
    """The column that holds the text: one of the usual names in the first row, else its longest string."""
    row = _first_row(file)
    strings = {key: value for key, value in row.items() if isinstance(value, str)}
    usual = next((name for name in _NAMES_OF_TEXT if name in strings), None)
    return usual or max(strings, key=lambda key: len(strings[key]), default="text")


def _first_row(file: SourceFile) -> dict[str, object]:
    """The first row of a file; empty where there is none or it cannot be read, which curation will say."""
    try:
        if file.format == "jsonl":
            found = lines(chunks(file.place, file.bytes, Meter()))
            line = next((line for line in found if not isinstance(line, LongLine) and line.strip()), b"{}")
            value = json.loads(line)
            return value if isinstance(value, dict) else {}
        if file.format == "parquet":
            import pyarrow.parquet as pq

            with pq.ParquetFile(file.path) as table:
                batch = next(table.iter_batches(batch_size=1), None)
                return dict(batch.to_pylist()[0]) if batch is not None else {}
    except (DamagedStream, ValueError, OSError):
        return {}
    return {}


def _quoted(value: Any) -> str:
    return (
        str(yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000))
        .removesuffix("\n")
        .removesuffix("\n...")
    )


def source_lines(found: Found) -> str:
    """One source as a line of YAML."""
    field = "" if found.field == "text" else f", text: {_quoted(found.field)}"
    field += "" if found.format == "auto" else f", format: {found.format}"
    return f"  {_quoted(found.name)}: {{path: {_quoted(found.path)}{field}}}   # {found.bytes / 1e6:,.1f} MB on disk"


def _study(title: str, sources: list[Found], targets: list[Found], passed: list[str], curate: str) -> str:
    floor = min(0.02, 0.5 / len(sources))
    skipped = f"\n# Passed over, since nothing in it is read here: {', '.join(passed)}" if passed else ""
    guess = ", ".join(f"{_quoted(s.name)}: {1 / len(sources):.4g}" for s in sources)
    target_lines = "\n".join(source_lines(t) for t in targets) or "  {}"
    target_note = (
        ""
        if targets
        else "\n# (none found: put files in a folder called targets/, or the mean over all domains is the goal)"
    )
    return f"""\
# Written by `mixwright init`. Run it with `mixwright run`; see what that costs with `mixwright run --dry-run`.
schema: mixwright/study/1
title: {_quoted(title)}

# One domain per source. path: a file, a folder or a pattern, from here. Formats: JSONL (.gz, .zst), Parquet, text.{skipped}
sources:
{chr(10).join(source_lines(s) for s in sources)}

# Text that says what "good" means; never trained on.{target_note}
targets:
{target_lines if targets else "  {}"}

{curate.rstrip()}

tokenizer:
  vocab: 4096                 # or path: a tokenizer.json
  held_out: 0.05              # of the documents, by hash of their text; never trained on

proxy:                        # the small runs
  sizes: [48x1]               # WIDTHxLAYERS, or parameters outside embeddings: 1M
  tokens: 307_200             # each repeats its domains as often as the budget's run will (match_repetition: false: not)

design:
  runs: 16                    # mixtures tried, spread around the natural one; use 3 to 4 per domain
  repeats: 3                  # the natural mixture again with other seeds: that is the noise

law:
  form: auto                  # per metric hierarchical, unless another law predicts held-out runs clearly better

objective:
  metrics: {{}}                 # {{"target:NAME": weight, "val:DOMAIN": weight}}; empty: the mean of all targets
  floors: {floor:.3g}                # the least weight of every domain, so that no loss explodes unseen
  epoch_cap: 4                # repeat nothing more than four times (Muennighoff et al. 2023, arXiv:2305.16264)

# budget:
#   tokens: 1_000_000_000     # the run the recipe is for; default: one pass over everything
#   seq_len: 4096             # of that run, for the exports
#   batch: 256

verify:                       # larger runs: natural, uniform, your guess, optimized
  size: 64x2
  tokens: 512_000
  seeds: 2
  # guess: {{{guess}}}

final_phase:                  # at 80 % of a run on the natural mixture: go on, or switch
  start: 0.8
  weights: optimized

export: [megatron, hf]
engine: {{workers: 0}}          # processes on this machine; 0: one per core. {{kind: ray, address: auto}}: a Ray cluster
# logging: {{tensorboard: true, mlflow: true}}
seed: 0
"""
