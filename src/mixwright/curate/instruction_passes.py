"""The two passes that instruction-following difficulty compares, forwards and in reverse.

q      a prompt;  a  its response;  t  the target: a forwards, q in reverse
L(t|c) mean loss of the target's tokens after a context, nats;  L(t)  the same without it, of the same tokens

Templates, and what stands before the target in the second pass:

    alpaca  Cherry_LLM's (arXiv:2308.12032, ``prompt_no_input``: the row's prompt is the instruction) | "### Response:"
    plain   Superfiltering's (arXiv:2402.00530): the prompt and a line feed | nothing
    chat    the chat template of the model's tokenizer | what it puts before an answer

In reverse (arXiv:2402.10110) the context is the template around a request to guess the instruction of the response, and
nothing stands before the target in the second pass. A context of more than 32 characters for each token of ``max_tokens``
is not encoded: it leaves no room.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mixwright.core.errors import StudyError
from mixwright.curate.language_model import Ids, LanguageModel
from mixwright.curate.scorer import Half, Plan, Scorer
from mixwright.curate.token_passes import cut_text, pair

Template = Literal["alpaca", "plain", "chat"]
#: the Alpaca prompt without an input field, and its end, which alone stands before an answer in the pass without context
_ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{prompt}\n\n### Response:"
)
_RESPONSE = "### Response:"
_PLAIN = "{prompt}\n"
#: the request of Selective Reflection-Tuning (Li et al. 2024, arXiv:2402.10110) to guess an instruction
_GUESS = (
    "Below is the response to an instruction, please guess the corresponding instruction for the given response.\n"
    "{response}\nGenerate the instruction for the above response."
)
#: places in ``Difficulty.reasons``
_NO_INSTRUCTION, _NO_TARGET, _NO_ROOM, _NOT_FINITE = range(4)
#: nats above which an exponential is no longer a float
_LARGEST = 700


def guess(response: str) -> str:
    """The prompt that asks for the instruction a response answers."""
    return _GUESS.replace("{response}", response)


@dataclass(frozen=True)
class Difficulty(Scorer):
    """How much a context helps a model to predict a target: six columns, in this order.

    L(t|c) / L(t); exp(L(t|c) - L(t)); L(t|c); L(t); how many tokens of the target count; 1 where the target's end was cut
    off (in both passes), else 0. ``max_tokens`` bounds the pass with context.
    """

    reasons = (
        "no instruction row", "no token in the target", "no room for the target behind its context",
        "a loss that is not finite",
    )  # fmt: skip
    instructions = True

    template: Template = "alpaca"

    @abstractmethod
    def asked(self, row: Half) -> tuple[str, str]:
        """What the template is put around, and the target, of an instruction row."""

    @abstractmethod
    def bare(self, model: LanguageModel) -> Ids:
        """What stands before the target in the pass without context, behind the beginning."""

    def plans(self, model: LanguageModel, rows: Sequence[Half]) -> list[Plan]:
        limit, bare = self.limit(model), self.bare(model)
        asked = [self.asked(row) if row.prompt is not None and row.response is not None else None for row in rows]
        targets = model.encode(["" if one is None else cut_text(one[1], limit) for one in asked])
        framed = [one is not None and len(one[0]) == len(cut_text(one[0], limit)) for one in asked]
        contexts = iter(
            frame(model, self.template, [one[0] for one, fits in zip(asked, framed, strict=True) if one and fits])
        )
        plans = []
        for one, fits, target in zip(asked, framed, targets, strict=True):
            context = next(contexts) if fits else None
            if one is None:
                plans.append(Plan(failed=(_NO_INSTRUCTION,)))
            elif not len(target):
                plans.append(Plan(failed=(_NO_TARGET,)))
            else:
                found = None if context is None else pair(model.begin, context, bare, target, limit)
                unseen = len(target) == 1 and not len(model.begin) + len(bare)
                if found is None:
                    plans.append(Plan(failed=(_NO_TARGET if unseen else _NO_ROOM,)))
                else:
                    cut = found[2] or len(cut_text(one[1], limit)) < len(one[1])
                    plans.append(Plan(found[:2], truncated=cut))
        return plans

    def numbers(self, plan: Plan, sums: Sequence[float]) -> tuple[list[float], list[int]]:
        none = [math.nan] * len(self.columns)
        if not plan.passes:
            return none, []
        tokens = plan.passes[0].scored
        given, alone = sums[0] / tokens, sums[1] / tokens
        if not (math.isfinite(given) and math.isfinite(alone) and alone > 0 and given - alone < _LARGEST):
            return none, [_NOT_FINITE]
        return [given / alone, math.exp(given - alone), given, alone, float(tokens), float(plan.truncated)], []


def frame(model: LanguageModel, template: Template, prompts: Sequence[str]) -> list[Ids]:
    """The ids of prompts in their template, without the beginning. StudyError where the tokenizer has no chat template."""
    if template == "chat":
        return [_chat(model, prompt) for prompt in prompts]
    form = _ALPACA if template == "alpaca" else _PLAIN
    return model.encode([form.replace("{prompt}", prompt) for prompt in prompts])


def before_answer(model: LanguageModel, template: Template) -> Ids:
    """What a template puts right before an answer."""
    if template == "plain":
        return np.zeros(0, dtype=np.int32)
    if template == "alpaca":
        return model.encode([_RESPONSE])[0]
    without, whole = (_render(model, "x", header) for header in (False, True))
    return model.encode_marked(whole[len(without) :] if whole.startswith(without) else "")


def _chat(model: LanguageModel, prompt: str) -> Ids:
    ids = model.encode_marked(_render(model, prompt, True))
    begun = len(model.begin) > 0 and len(ids) > 0 and ids[0] == model.begin[0]
    return ids[1:] if begun else ids


def _render(model: LanguageModel, prompt: str, header: bool) -> str:
    if model.tokenizer.chat_template is None:
        raise StudyError(
            f"template is chat, but the tokenizer of {model.folder} has no chat template. Set alpaca or plain."
        )
    turns = [{"role": "user", "content": prompt}]
    return str(model.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=header))
