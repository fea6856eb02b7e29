"""Tiny language models on disk, and the plainest way to score with them: one row at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TEXT = [
    "the cat sat on the mat. a dog ran over the hill, and the cat sat still.\n",
    "### Instruction:\nName a colour.\n\n### Response:The colour is red. ### Response:The sky is blue.\n",
    "Answer:\nThe answer:\nThe question is: what is it?\nThe ends:\nThe\n",
]


def tokenizer(begin: str | None = "<s>", *, splits: bool = True) -> Tokenizer:
    """A byte-level BPE; without ``splits`` its tokens reach over spaces, colons and line feeds."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=splits)
    made.decoder = decoders.ByteLevel()
    marks = ["</s>", *([begin] if begin else [])]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made.train_from_iterator(
        TEXT * 20,
        trainers.BpeTrainer(vocab_size=400, special_tokens=marks, initial_alphabet=alphabet, show_progress=False),
    )
    return made


def save(folder: Path, *, begin: str | None = "<s>", splits: bool = True, kind: str = "llama", seed: int = 0) -> Path:
    """A folder of transformers with random weights far from those it starts with, so that losses differ."""
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = tokenizer(begin, splits=splits)
    size, end = words.get_vocab_size(), words.token_to_id("</s>")
    torch.manual_seed(seed)
    if kind == "llama":
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                max_position_embeddings=256, bos_token_id=None, eos_token_id=end,
            )
        )  # fmt: skip
    else:
        model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=size, n_embd=32, n_layer=2, n_head=4, n_positions=256, bos_token_id=end, eos_token_id=end
            )
        )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.15 * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=words, bos_token=begin, eos_token="</s>").save_pretrained(folder)
    return folder


class Plain:
    """The losses of single rows, computed as the definitions say: no batch, no padding, float64 from the logits on."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.words = AutoTokenizer.from_pretrained(folder)
        self.begin = [] if self.words.bos_token_id is None else [self.words.bos_token_id]

    def ids(self, text: str) -> list[int]:
        return list(self.words(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])

    def losses(self, ids: list[int]) -> np.ndarray:
        """The loss of each token but the first."""
        with torch.no_grad():
            logits = self.model(torch.tensor([ids])).logits[0].double()
        return -torch.log_softmax(logits, dim=-1)[range(len(ids) - 1), ids[1:]].numpy()
