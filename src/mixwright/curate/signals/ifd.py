"""How much an instruction helps a local language model to predict its response."""

from __future__ import annotations

from dataclasses import dataclass

from mixwright.curate.instruction_passes import Difficulty, before_answer
from mixwright.curate.language_model import Ids, LanguageModel
from mixwright.curate.scorer import Half


@dataclass(frozen=True)
class Ifd(Difficulty):
    """Instruction-following difficulty: ``ifd_loss`` = L(a|q) / L(a) (Li et al. 2023, arXiv:2308.12032, equation 4);
    ``ifd_ppl`` = exp(L(a|q) - L(a)) (Li et al. 2024, arXiv:2402.00530); ``ifd_answer_loss`` = L(a|q) and ``ifd_direct_loss`` =
    L(a), nats/token over the same ``ifd_tokens`` tokens of the response; ``ifd_truncated``: 1 where its end was cut off.

    The two ratios have different scales: thresholds for one are none for the other. See ``instruction_passes.py``.
    """

    columns = ("ifd_loss", "ifd_ppl", "ifd_answer_loss", "ifd_direct_loss", "ifd_tokens", "ifd_truncated")

    def asked(self, row: Half) -> tuple[str, str]:
        return row.prompt or "", row.response or ""

    def bare(self, model: LanguageModel) -> Ids:
        return before_answer(model, self.template)
