"""How much a response helps a local language model to guess its instruction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixwright.curate.instruction_passes import Difficulty, guess
from mixwright.curate.language_model import Ids, LanguageModel
from mixwright.curate.scorer import Half


@dataclass(frozen=True)
class Rifd(Difficulty):
    """Reverse IFD (Li et al. 2024, arXiv:2402.10110): ``rifd_loss`` = L(q|a) / L(q); ``rifd_ppl`` = exp(L(q|a) - L(q));
    ``rifd_guess_loss`` = L(q|a) behind the request to guess the instruction of a response, and ``rifd_direct_loss`` = L(q),
    nats/token over the same ``rifd_tokens`` tokens of the prompt; ``rifd_truncated``: 1 where its end was cut off.
    """

    columns = ("rifd_loss", "rifd_ppl", "rifd_guess_loss", "rifd_direct_loss", "rifd_tokens", "rifd_truncated")

    def asked(self, row: Half) -> tuple[str, str]:
        return guess(row.response or ""), row.prompt or ""

    def bare(self, model: LanguageModel) -> Ids:
        return np.zeros(0, dtype=np.int32)
