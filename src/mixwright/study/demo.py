"""The demo: a study on text found in the running Python, with a guess written down before any run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixwright.core.errors import StudyError
from mixwright.store.artifact import read_json, write_atomic

#: What a person would guess from the targets' kinds alone (English reference prose, C headers): most weight to English
#: prose and to C++ headers, some to Python, little to tests and number tables. Written before any run was made.
GUESS = {"py_docs": 0.40, "cxx_headers": 0.40, "py_code": 0.10, "py_tests": 0.05, "dectest": 0.05}
#: MB of text harvested; about one pass of the verification runs, many of the proxies
MEGABYTES = 24.0


def prepare(folder: Path, seed: int) -> list[str]:
    """Collect the text and write ``study.yaml`` in ``folder`` unless both are there; returns what a person should know."""
    from mixwright.curate.installed_text import harvest

    study = folder / "study.yaml"
    done = folder / "harvest.json"
    found = read_json(done) if done.is_file() else harvest(folder, megabytes=MEGABYTES)
    if not study.exists():
        write_atomic(study, study_text(found, seed))
    written = re.search(r"^seed: (\d+)$", study.read_text("utf-8"), re.MULTILINE)
    if seed and (written is None or int(written[1]) != seed):
        raise StudyError(
            f"{study} has its own seed. For a demo with seed {seed} give another folder: "
            f"mixwright demo --folder {folder}-{seed} --seed {seed}"
        )
    return list(found.get("notes", []))


def study_text(found: Mapping[str, Any], seed: int) -> str:
    """The demo's study file for the text that was found."""
    domains = list(found["sources"])
    known = {name: GUESS[name] for name in domains if name in GUESS}
    others = [name for name in domains if name not in GUESS]
    left = 1.0 - sum(known.values())
    guess = known | {name: left / len(others) for name in others}
    if not others and left > 1e-9:  # a domain of the guess is not there: the rest keep their proportions
        guess = {name: weight / sum(known.values()) for name, weight in known.items()}
    return f"""\
# The demo of mixwright: text found in this Python installation. Change it and run `mixwright demo` again.
schema: mixwright/study/1
title: Text found in a Python installation

sources:
{_lines("sources", found["sources"])}

# What "good" means here: C headers of CPython and English reference prose. Never trained on; documents that share a
# 13-gram of words with training text are dropped.
targets:
{_lines("targets", found["targets"])}

curate:
  dedup: {{exact: true, near: true}}
  rules:                        # thresholds; the numbers are measured for every document first
    chars: {{min: 200}}
    alnum_ratio: {{min: 0.4}}
    duplicate_line_ratio: {{max: 0.6}}
    longest_line: {{max: 1000}}
    mean_word_length: {{min: 2.5, max: 14}}

tokenizer:
  vocab: 4096
  held_out: 0.05                # of the documents, by hash of their text

trainer: {{name: builtin, seq_len: 128, batch: 4, trajectory_evals: 12}}

proxy:
  sizes: [48x1]                 # 28 thousand parameters outside embedding and head
  tokens: 256_000               # 500 steps of 4 windows of 128

design:
  runs: 16
  repeats: 3

law:
  form: auto                    # per metric hierarchical, unless additive or exponential predicts held-out runs better

objective:
  metrics: {{{", ".join(f'"target:{name}": 1' for name in found["targets"])}}}
  floors: 0.03                  # every domain keeps a little, so that no loss explodes unseen
  epoch_cap: 4                  # Muennighoff et al. 2023 (arXiv:2305.16264): up to four epochs are nearly as good as new text

verify:
  size: 64x2
  tokens: 409_600               # 1.6 times the proxy's tokens, 3.6 times its parameters
  seeds: 2
  # Written before any run: most weight to the domains nearest to the targets in language or kind.
  guess: {{{", ".join(f"{name}: {weight:.4g}" for name, weight in guess.items())}}}

final_phase:
  start: 0.8
  weights: optimized

export: [megatron, hf]
seed: {seed}
"""


def _lines(kind: str, found: Mapping[str, Mapping[str, Any]]) -> str:
    import yaml

    rows = []
    for name, entry in found.items():
        options = {"path": f"{kind}/{name}.jsonl", "licence": entry["licence"], "rule": entry["rule"]}
        text = str(yaml.safe_dump({name: options}, sort_keys=False, allow_unicode=True, width=110))
        rows.append("".join(f"  {line}\n" for line in text.splitlines()))
    return "".join(rows).rstrip("\n")
