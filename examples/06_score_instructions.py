"""Instruction rows from installed docstrings, scored by how much each instruction helps a model to predict its response.

The model is trained here in a second on the same rows, so it knows little: what is shown is how it is done, not which rows
are good. Name a model folder of your own under ``model`` for that.
"""

import importlib.util
import json
from pathlib import Path

import pyarrow.parquet as pq
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

from mixwright.curate.docstrings import take_apart
from mixwright.curate.pipeline import Options, curate
from mixwright.engine.local import LocalEngine
from mixwright.store.artifact import Workspace
from mixwright.store.documents import SourceOptions
from mixwright.text import tokenizer

# ---- rows: the name asks, the docstring answers
rows = []
for module in ("numpy.lib._npyio_impl", "numpy.lib._function_base_impl", "numpy.linalg._linalg", "pathlib", "argparse"):
    place = Path(importlib.util.find_spec(module).origin)
    for name, text in take_apart(place.read_text("utf-8"), long=200)[1]:
        rows.append({"prompt": f"What does {name or place.stem} do?", "response": text[:1500]})
Path("rows.jsonl").write_text(
    "".join(json.dumps(row) + "\n" for row in [*rows, {"prompt": "Say nothing.", "response": ""}])
)

# ---- a tokenizer and a model of 0.2M parameters, in the layout of transformers
facts = tokenizer.train((f"{row['prompt']}\n{row['response']}" for row in rows), 1000, Path("model", "tokenizer.json"))
words = PreTrainedTokenizerFast(
    tokenizer_file="model/tokenizer.json", bos_token=facts.end_token, eos_token=facts.end_token
)
words.save_pretrained("model")
set_seed(0)
model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=facts.vocab, hidden_size=64, intermediate_size=192, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=512,
    )
)  # fmt: skip
texts = [f"{row['prompt']}\n{row['response']}{facts.end_token}" for row in rows]
stream = torch.tensor([i for ids in words(texts)["input_ids"] for i in ids])
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for _ in range(60):
    starts = torch.randint(len(stream) - 128, (8,))
    batch = torch.stack([stream[at : at + 128] for at in starts])
    loss = model(batch, labels=batch).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
model.save_pretrained("model")

# ---- measure, keep a band, write: the ledger says why a row went
options = Options(
    measure={"ifd": {"model": "model", "template": "plain"}},
    keep={"helped": "ifd_ppl < 1", "band": "p10(ifd_loss) <= ifd_loss <= p90(ifd_loss)"},
)
draft = Workspace(Path("work")).draft("curate", "example")
source = SourceOptions("rows.jsonl", prompt=("prompt",), response="response")
summary = curate({"docs": source}, {}, options, base=Path(), draft=draft, engine=LocalEngine(1, "threads"))
told = summary["sources"]["docs"]
scores = pq.read_table(next(draft.path.glob("signals/docs/*.ifd.parquet")))
for column in ("ifd_loss", "ifd_ppl"):
    values = sorted(value for value in scores[column].to_pylist() if value == value)
    print(
        f"{column}: {len(values)} rows scored, from {values[0]:.3f} to {values[-1]:.3f}, middle {values[len(values) // 2]:.3f}"
    )
print("not scored:", json.loads((draft.path / "measured.json").read_text())["scored"]["ifd"])
print(f"read {told['read']['documents']}, kept {told['kept']['documents']}, dropped {told['dropped']}")
assert told["read"]["documents"] == len(rows) + 1
assert 0 < told["kept"]["documents"] < len(rows)
