"""The small study whose commands are killed: three domains of made-up words, proxies of some seconds."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mixwright.core.rng import rng

DOMAINS = ("code", "maths", "prose")
STUDY = """\
schema: mixwright/study/1
sources:
  code: {path: data/code.jsonl}
  maths: {path: data/maths.jsonl}
  prose: {path: data/prose.jsonl}
targets:
  letters: {path: data/letters.jsonl}
tokenizer: {vocab: 384, held_out: 0.1}
trainer:
  name: builtin
  seq_len: 32
  batch: 4
  eval_tokens: 1024
  trajectory_evals: 4
  trajectory_eval_tokens: 256
  checkpoint_seconds: 0.1
  log_windows: true
proxy: {sizes: [16x1], tokens: 25600}
design: {runs: 5, repeats: 1}
seed: 5
"""
#: For ``mixwright train``: two phases, so that a mixture changes under way.
RECIPE = """\
schema: mixwright/recipe/1
tokens: 64000
phases:
- tokens: 48000
  weights: {code: 0.3, maths: 0.3, prose: 0.4}
- tokens: 16000
  weights: {code: 0.1, maths: 0.8, prose: 0.1}
objective: {}
forecasts: []
supply: {}
fingerprints: {}
notes: []
verified: []
params: null
"""
TOKENS, SIZE = 64_000, "24x1"


@dataclass(frozen=True)
class Place:
    """A study's folder and how commands are run in it."""

    folder: Path

    def python(self, *arguments: str) -> subprocess.Popen[str]:
        """``python`` with these arguments, in the folder, in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, *arguments], cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def like(self, other: Path, without: tuple[str, ...] = ()) -> None:
        """Make it a copy of ``other``, without some stages."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(other, self.folder, symlinks=True)
        for stage in without:
            shutil.rmtree(self.work / stage, ignore_errors=True)


def write_study(folder: Path, kilobytes: int = 120) -> None:
    """``kilobytes`` of words per domain, in documents of a few hundred bytes; a fifth as much of the target."""
    folder.mkdir(parents=True)
    (folder / "data").mkdir()
    for name, size in {**dict.fromkeys(DOMAINS, kilobytes), "letters": kilobytes // 5}.items():
        lines, written = [], 0
        draw = rng(0, "faults", name)
        words = ["".join(draw.choice(list("abcdefghijklmnop"), int(draw.integers(2, 8)))) for _ in range(60)]
        while written < 1000 * size:
            text = " ".join(words[n] for n in draw.integers(0, len(words), int(draw.integers(30, 120))))
            lines.append(json.dumps({"text": text}) + "\n")
            written += len(text)
        (folder / "data" / f"{name}.jsonl").write_text("".join(lines))
    (folder / "study.yaml").write_text(STUDY)
    (folder / "recipe.yaml").write_text(RECIPE)
