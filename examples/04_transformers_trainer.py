"""A small Llama trained by ``transformers.Trainer`` from the stream, stopped, and resumed without skipping batch by batch."""

from pathlib import Path

import numpy as np
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments, set_seed

from mixwright import Mixture, MixtureStream, Schedule
from mixwright.store.tokens import TokenStore, write_tokens
from mixwright.stream.torch_dataset import MixtureDataset, causal

SEQ_LEN, BATCH, MICRO, STEPS, STOP = 32, 8, 2, 12, 8
draw = np.random.default_rng(0)
for name, step in {"up": 1, "down": 62}.items():
    texts = [np.append((draw.integers(63) + step * np.arange(99)) % 63 + 1, 0) for _ in range(60)]
    write_tokens(Path("tokens", name), texts, vocab=64, tokenizer="example", end=0, text_bytes=6000)
stores = {name: TokenStore.open(Path("tokens", name)) for name in ("up", "down")}
schedule = Schedule.constant(Mixture.of({"up": 0.75, "down": 0.25}), STEPS * BATCH * SEQ_LEN)


class GoTo(TrainerCallback):
    """Before training begins, the dataset begins after the steps that the checkpoint has done: one jump, nothing is read."""

    def __init__(self, dataset: MixtureDataset) -> None:
        self.dataset = dataset

    def on_train_begin(self, args, state, control, **more):
        self.dataset.go_to(state.global_step)


def train(folder: str, stop: int = STEPS, resume: str | None = None) -> dict[int, float]:
    """The loss of every step."""
    set_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                    max_position_embeddings=SEQ_LEN)
    )  # fmt: skip
    stream = MixtureStream(stores, schedule, seed=1, seq_len=SEQ_LEN, batch=BATCH)
    dataset = MixtureDataset(
        stream, parts=BATCH // MICRO, rows=True, form=causal
    )  # an item per row, MICRO rows a forward
    arguments = TrainingArguments(
        folder, max_steps=STEPS, per_device_train_batch_size=MICRO, gradient_accumulation_steps=BATCH // MICRO,
        learning_rate=3e-3, logging_steps=1, save_steps=STOP, ignore_data_skip=True, use_cpu=True, report_to=[],
        disable_tqdm=True, lr_scheduler_type="constant",
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=dataset, callbacks=[GoTo(dataset)])
    if stop < STEPS:
        trainer.add_callback(StopAt(stop))
    trainer.train(resume_from_checkpoint=resume)
    return {entry["step"]: entry["loss"] for entry in trainer.state.log_history if "loss" in entry}


class StopAt(TrainerCallback):
    """Ends training after a step, as a job that runs out of time."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **more):
        control.should_training_stop = state.global_step >= self.step


whole = train("whole")
train("stopped", STOP)
resumed = train("stopped", resume=f"stopped/checkpoint-{STOP}")
for step in range(STOP + 1, STEPS + 1):
    print(f"step {step:2}: {whole[step]:.4f} in one go, {resumed[step]:.4f} resumed")
assert all(resumed[step] == whole[step] for step in whole), "the same windows, the same losses"
assert whole[STEPS] < whole[1]
