"""How well a local language model predicts a text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mixwright.core.errors import StudyError
from mixwright.curate.language_model import LanguageModel
from mixwright.curate.scorer import Half, Plan, Scorer
from mixwright.curate.token_passes import cut_text, windows

#: places in ``Perplexity.reasons``
_NOTHING, _NOT_FINITE = range(2)


@dataclass(frozen=True)
class Perplexity(Scorer):
    """``lm_loss``: mean loss of a text's tokens in nats; ``lm_perplexity``: its exponential; ``lm_tokens``: tokens scored;
    ``lm_truncated``: 1 where the text had more tokens than were scored, else 0.

    The model's token for the beginning of a text stands first where its tokenizer has one; where it has none, the first
    token has no context and does not count. ``long`` ``truncate`` scores the first ``max_tokens`` tokens (the beginning
    included); ``stride`` scores all, in windows of ``max_tokens`` that begin ``stride`` (none: half a window) apart, each
    token once, in the first window that holds it.
    """

    columns = ("lm_perplexity", "lm_loss", "lm_tokens", "lm_truncated")
    reasons = ("no token that a loss could be given for", "a loss that is not finite")

    long: Literal["truncate", "stride"] = "truncate"
    stride: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stride is not None and (self.stride < 1 or self.long != "stride"):
            raise StudyError(f"stride must be at least 1, and goes with long: stride; got {self.stride}, {self.long}.")

    def plans(self, model: LanguageModel, rows: Sequence[Half]) -> list[Plan]:
        limit = self.limit(model)
        if self.stride is not None and self.stride >= limit:
            raise StudyError(f"stride is {self.stride}, but a window has {limit} tokens. Set it below that.")
        whole = self.long == "stride"
        texts = [row.text if whole else cut_text(row.text, limit) for row in rows]
        plans = []
        for row, text, ids in zip(rows, texts, model.encode(texts), strict=True):
            passes = windows(model.begin, ids, limit, self.stride or limit // 2)
            if not passes:
                plans.append(Plan(failed=(_NOTHING,)))
            elif whole:
                plans.append(Plan(passes))
            else:
                plans.append(Plan(passes[:1], truncated=len(passes) > 1 or len(text) < len(row.text)))
        return plans

    def numbers(self, plan: Plan, sums: Sequence[float]) -> tuple[list[float], list[int]]:
        tokens = sum(one.scored for one in plan.passes)
        loss = sum(sums) / tokens if tokens else math.nan
        if not math.isfinite(loss):
            return [math.nan] * 4, [_NOT_FINITE] if tokens else []
        perplexity = math.exp(loss) if loss < 700 else math.nan
        return [perplexity, loss, float(tokens), float(plan.truncated)], [] if loss < 700 else [_NOT_FINITE]
