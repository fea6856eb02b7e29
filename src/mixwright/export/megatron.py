"""Megatron-LM: one data blend per phase, and a script that launches the phases one after the other.

Megatron reads ``.bin``/``.idx`` pairs by their common prefix, as the tokenize stage writes them; a domain of several
shards is as many prefixes, whose weights are the domain's in proportion to their tokens. It has no schedule of
mixtures: ``--phase-transition-iterations`` saves and exits at each boundary, and the next launch reads another blend
(``megatron/training/training.py`` of Megatron-LM d98e8a6, 2026-08-22). The blend is not in the checkpoint, so the
script looks up the last saved iteration to know which blend comes next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mixwright.core.errors import StudyError
from mixwright.core.recipe import Recipe
from mixwright.export.exporter import Cut, Exporter, cut
from mixwright.store.artifact import MANIFEST
from mixwright.store.place import Place
from mixwright.store.tokens import TokenStore

_SCRIPT = """\
#!/usr/bin/env bash
# A mixwright recipe for Megatron-LM: {phases}.
#
{statement}
#
# Usage, with every other argument of pretrain_gpt.py (model, tokenizer, optimizer, parallelism) at the end:
#   MEGATRON=/path/to/Megatron-LM CHECKPOINTS=/path/to/checkpoints bash megatron.sh --num-layers 24 ...
# LAUNCH replaces "torchrun --nproc-per-node 8". {paths}
# Interrupted, the same command goes on where the last checkpoint was. Keep --global-batch-size as it is: Megatron
# counts the phases in iterations. Learning-rate lengths (--lr-decay-samples ...) span all phases: {samples} samples.
set -euo pipefail
here="$(cd "$(dirname "${{BASH_SOURCE[0]}}")" && pwd)"
: "${{MEGATRON:?set MEGATRON to a checkout of Megatron-LM}}"
: "${{CHECKPOINTS:?set CHECKPOINTS to a folder for checkpoints}}"
read -r -a launch <<< "${{LAUNCH:-torchrun --nproc-per-node 8}}"

reached() {{
  local saved
  saved="$(cat "$CHECKPOINTS/latest_checkpointed_iteration.txt" 2>/dev/null || echo 0)"
  echo "${{saved:-0}}"
}}

phase() {{
  local blend="$1" last="$2"
  shift 2
  if [ "$(reached)" -ge "$last" ]; then
    echo "$blend: done before (iteration $last is saved)"
    return
  fi
  "${{launch[@]}}" "$MEGATRON/pretrain_gpt.py" --data-args-path "$here/$blend" --split 1,0,0 --eval-iters 0 \\
    --seq-length {seq_len} --global-batch-size {batch} --train-samples {samples}{transitions} --seed {seed} \\
    --save "$CHECKPOINTS" --load "$CHECKPOINTS" "$@"
  if [ "$(reached)" -lt "$last" ]; then
    echo "$blend: stopped at iteration $(reached) of $last; run the same command again to go on" >&2
    exit 1
  fi
}}

{calls}
"""


@dataclass(frozen=True)
class Megatron(Exporter):
    """Files for Megatron-LM: ``megatron-phaseN.txt`` (``--data-args-path``) and ``megatron.sh``.

    ``seed`` is Megatron's own ``--seed``: it fixes its initialization and the order inside each domain.
    """

    seed: int = 1234

    unit: ClassVar[str] = (
        "Weights are fractions of training tokens; Megatron applies them to samples, all of the same length, "
        "so they mean the same. A domain of several shards is "
        "one line per shard. Every prefix of the stream holds them within about one sample per domain."
    )
    repeats: ClassVar[str] = (
        "A domain that runs out is repeated in a new order. Each phase shuffles every domain afresh, so a sample of an "
        "earlier phase may come again before the domain is used up; the epochs above are right on average."
    )
    tested: ClassVar[str] = (
        "Tried with megatron-core 0.16.1 (blends); launch arguments read from Megatron-LM d98e8a6 of 2026-08-22."
    )

    def files(self, recipe: Recipe, *, tokens_root: str | None, seq_len: int, batch: int) -> dict[str, str]:
        """See ``Exporter.files``; StudyError for a path with white space, which ``--data-args-path`` cannot hold."""
        cuts = cut(recipe.schedule, seq_len=seq_len, batch=batch)
        names = [f"megatron-phase{number}.txt" for number in range(1, len(cuts) + 1)]
        files = {name: _blend(part, tokens_root) for name, part in zip(names, cuts, strict=True)}
        boundaries = ",".join(str(part.last) for part in cuts[:-1])
        files["megatron.sh"] = _SCRIPT.format(
            phases=f"{len(cuts)} phase{'s' if len(cuts) > 1 else ''}, {sum(part.tokens for part in cuts):,} tokens",
            statement="\n".join(f"# - {line}" for line in self.statement(recipe, cuts)),
            paths="Run it anywhere."
            if tokens_root
            else "Run it in the folder that holds train/, since paths are relative to it.",
            seq_len=seq_len,
            batch=batch,
            samples=sum(part.samples for part in cuts),
            transitions=f" --phase-transition-iterations {boundaries}" if boundaries else "",
            seed=self.seed,
            calls="\n".join(f'phase {name} {part.last} "$@"' for name, part in zip(names, cuts, strict=True)),
        )
        return files


def _blend(part: Cut, tokens_root: str | None) -> str:
    """``weight prefix`` per line; Megatron splits the file at white space."""
    lines = []
    for name, weight in part.weights().items():
        folder = "/".join(([tokens_root.rstrip("/")] if tokens_root else []) + ["train", name])
        if folder.split() != [folder]:
            raise StudyError(
                f"Megatron splits its blend file at white space, so it cannot read {folder + '/000'!r}. "
                "Rename the domain, or move the tokens to a path without spaces."
            )
        shards = _shards(folder) if tokens_root else {"000": 1}
        for shard, portion in zip(shards, split(weight, list(shards.values())), strict=True):
            lines.append(f"{portion!r} {folder}/{shard}")
    return "\n".join(lines) + "\n"


def _shards(folder: str) -> dict[str, int]:
    """Tokens per shard of a domain; one shard ``000`` where its tokens are not at hand."""
    if not (Path(folder) / MANIFEST).is_file():
        return {"000": 1}
    shards = TokenStore.open(folder).shards
    return {Place(shard.file).name.removesuffix(".bin"): shard.tokens for shard in shards} or {"000": 1}


def split(weight: float, tokens: Sequence[int]) -> list[float]:
    """A domain's weight over its shards in proportion to their tokens.

    All are multiples of ``weight``'s last bit, so that adding them up in any order gives ``weight`` exactly; the last
    takes the rounding.
    """
    grid, total = math.ulp(weight), sum(tokens)
    parts = [round(weight * (count / total) / grid) * grid for count in tokens[:-1]]
    return [*parts, weight - math.fsum(parts)]


def read_blend(content: str) -> dict[str, float]:
    """``{domain: weight}`` of a blend file as ``Megatron.files`` writes it, the shards of a domain added up."""
    parts = content.split()
    found: dict[str, float] = {}
    for weight, prefix in zip(parts[::2], parts[1::2], strict=True):
        domain = prefix.split("/")[-2]
        found[domain] = found.get(domain, 0.0) + float(weight)
    return found
