"""A small study of a few seconds, and the text it is about."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from mixwright.core.rng import rng

WORDS = {
    "code": ["def", "return", "self", "import", "for", "in", "range", "if", "else", "(x)", "==", "None", "yield"],
    "prose": [
        "the",
        "river",
        "house",
        "morning",
        "walked",
        "slowly",
        "under",
        "old",
        "bridge",
        "and",
        "light",
        "quiet",
    ],
    "maths": [
        "theorem",
        "proof",
        "let",
        "epsilon",
        "delta",
        "sum",
        "limit",
        "series",
        "bound",
        "lemma",
        "integer",
        "prime",
    ],
}


def documents(kind: str, count: int, seed: int) -> list[str]:
    """Texts of one kind: random words of its own with a few of the others."""
    draw = rng(seed, "text", kind)
    own, others = WORDS[kind], [word for name, words in WORDS.items() if name != kind for word in words]
    texts = []
    for _ in range(count):
        length = int(draw.integers(40, 120))
        picks = [own[i] for i in draw.integers(0, len(own), length)]
        for at in draw.integers(0, length, length // 8):
            picks[at] = others[int(draw.integers(0, len(others)))]
        texts.append(" ".join(picks) + ".\n")
    return texts


def write_jsonl(path: Path, texts: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


STUDY = """\
schema: mixwright/study/1
sources:
  code: {path: data/code.jsonl}
  prose: {path: data/prose.jsonl}
  maths: {path: data/maths.jsonl}
targets:
  letters: {path: data/targets/letters.jsonl}
curate: {rules: {chars: {min: 50}}}
tokenizer: {vocab: 320, held_out: 0.1}
trainer: {name: builtin, seq_len: 32, batch: 4, eval_tokens: 512, trajectory_eval_tokens: 256}
proxy: {sizes: [16x1], tokens: 2560}
design: {runs: 8, repeats: 2}
law: {repeats: 1, folds: 3}
objective: {floors: 0.05, epoch_cap: 20}
budget: {tokens: 50000}
verify: {size: 24x1, tokens: 3840, seeds: 1, guess: {code: 0.2, prose: 0.6, maths: 0.2}}
final_phase: {start: 0.8}
engine: {workers: 2}
seed: 5
"""


Mixwright = Callable[..., "subprocess.CompletedProcess[str]"]
