"""One case in a process of its own: who trains what, and how many tokens a second of CPU time (or of a GPU) it takes.

Both sides train the same architecture (Llama, untied embeddings) on the same random tokens with AdamW (fused), clipping at
1.0 and a linear schedule, each by its own whole loop as people run it: ours ``train.loop`` (``train.population`` for
several), theirs ``transformers.Trainer.train()``. Time is read at the end of every step, so start-up, compilation and the
evaluation at the end are not in it.
"""

import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mixwright.core.mixture import Mixture
from mixwright.core.run import ModelSize, Run
from mixwright.core.schedule import Schedule
from mixwright.store.artifact import write_json
from mixwright.store.tokens import write_tokens

#: tokens of the text that both sides read
TEXT = 400_000


@dataclass(frozen=True)
class Case:
    """``side`` is ours or trainer; ``models`` trained at once (ours only), each on ``batch`` windows of ``seq_len`` a step.

    ``steps`` are timed after ``warm`` that are not.
    """

    side: str
    size: str
    vocab: int
    seq_len: int
    batch: int
    precision: str = "fp32"
    compiled: bool = False
    models: int = 1
    steps: int = 10
    warm: int = 3
    device: str = "cpu"

    @property
    def tokens(self) -> int:
        """Of a step, all models together."""
        return self.models * self.batch * self.seq_len


@dataclass
class Clock:
    """CPU-seconds of this process and seconds by the wall at the end of every step."""

    cpu: list[float]
    wall: list[float]

    def tick(self) -> None:
        self.cpu.append(time.process_time())
        self.wall.append(time.perf_counter())

    def result(self, case: Case) -> dict[str, Any]:
        """Tokens a CPU-second and a second by the wall; ``first`` is what came before the timed steps, in CPU-seconds."""
        cpu, wall = self.cpu[case.warm] - self.cpu[0], self.wall[case.warm] - self.wall[0]
        tokens = (len(self.cpu) - 1 - case.warm) * case.tokens
        return {
            **asdict(case), "first": cpu, "first_wall": wall,
            "per_cpu_second": tokens / (self.cpu[-1] - self.cpu[case.warm]),
            "per_second": tokens / (self.wall[-1] - self.wall[case.warm]),
        }  # fmt: skip


def text(vocab: int) -> np.ndarray[Any, Any]:
    """Random ids, the same for both sides; id 0 ends the one document."""
    ids = np.random.default_rng(0).integers(1, vocab, TEXT)
    ids[-1] = 0
    return ids


def ours(case: Case) -> dict[str, Any]:
    """The builtin trainer, through the task that a sweep would send."""
    from mixwright.train.trainer import Job
    from mixwright.train.trainers.builtin import Builtin

    clock = Clock([time.process_time()], [time.perf_counter()])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("train/a", "val/a"):
            write_tokens(
                folder / part, [text(case.vocab)], vocab=case.vocab, tokenizer="bench", end=0, text_bytes=4 * TEXT
            )
        write_json(folder / "metrics.json", {"val:a": {"path": "val/a", "bytes": 4 * TEXT}})
        trainer = Builtin(
            seq_len=case.seq_len, batch=case.batch, lr=0.001, eval_tokens=case.seq_len, trajectory_evals=0,
            checkpoint_seconds=1e9, precision=case.precision, compile="on" if case.compiled else "off", device=case.device,
        )  # type: ignore[arg-type]  # fmt: skip
        tokens = (case.warm + case.steps) * case.batch * case.seq_len
        schedule = Schedule.constant(Mixture.of({"a": 1.0}), tokens)
        runs = [Run(f"run{n}", schedule, ModelSize.parse(case.size), seed=n) for n in range(case.models)]
        jobs = [Job(run, folder / run.run_id) for run in runs]
        alone = trainer.task(runs[0], corpus=folder, out=jobs[0].out)
        task = trainer.together(jobs, corpus=folder) if case.models > 1 else alone

        def progress(fraction: float, **facts: Any) -> None:
            if len(clock.cpu) <= case.warm + case.steps:
                clock.tick()

        task.call(progress)
    return clock.result(case)


def trainer(case: Case) -> dict[str, Any]:
    """``transformers.Trainer`` over LlamaForCausalLM from the same shape, with its defaults where nothing is said here."""
    import torch
    import transformers
    from torch.utils.data import Dataset

    torch.set_num_threads(1)
    transformers.set_seed(0)
    clock = Clock([time.process_time()], [time.perf_counter()])
    size = ModelSize.parse(case.size)
    config = transformers.LlamaConfig(
        hidden_size=size.width, intermediate_size=size.hidden, num_hidden_layers=size.layers,
        num_attention_heads=size.heads, num_key_value_heads=size.heads, vocab_size=case.vocab,
        max_position_embeddings=case.seq_len, tie_word_embeddings=False, use_cache=False,
    )  # fmt: skip
    ids = torch.from_numpy(text(case.vocab))

    class Windows(Dataset):  # type: ignore[misc,type-arg]
        def __len__(self) -> int:
            return len(ids) // case.seq_len

        def __getitem__(self, at: int) -> dict[str, Any]:
            window = ids[at * case.seq_len : (at + 1) * case.seq_len]
            return {"input_ids": window, "labels": window}

    class Ticks(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.tick()

    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder, per_device_train_batch_size=case.batch, max_steps=case.warm + case.steps,
            learning_rate=1e-3, weight_decay=0.1, adam_beta2=0.98, lr_scheduler_type="linear", optim="adamw_torch_fused",
            bf16=case.precision == "bf16", torch_compile=case.compiled, use_cpu=case.device == "cpu", save_strategy="no",
            report_to="none", disable_tqdm=True,
        )  # fmt: skip
        model = transformers.LlamaForCausalLM(config)
        transformers.Trainer(model=model, args=arguments, train_dataset=Windows(), callbacks=[Ticks()]).train()
    return clock.result(case)


def main() -> None:
    """The case is the JSON argument; its result is the last line on standard output."""
    case = Case(**json.loads(sys.argv[1]))
    result = {"ours": ours, "trainer": trainer}[case.side](case)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
