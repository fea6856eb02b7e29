"""Batches from token stores with numpy alone: ledger, resume on two ranks, document borders, weights that change under way."""

from pathlib import Path

import numpy as np

from mixwright import Mixture, MixtureStream, Schedule
from mixwright.store.tokens import TokenStore, write_tokens
from mixwright.stream.documents import documents
from mixwright.stream.ledger import check_epochs, ledger, ledger_table
from mixwright.stream.prefetch import prefetch

END, SEQ_LEN, BATCH = 0, 128, 8
draw = np.random.default_rng(0)
for name, count in {"web": 900, "code": 300, "maths": 60}.items():
    texts = [np.append(draw.integers(1, 500, draw.integers(20, 300)), END) for _ in range(count)]
    write_tokens(Path("tokens", name), texts, vocab=500, tokenizer="example", end=END, text_bytes=sum(map(len, texts)))
stores = {name: TokenStore.open(Path("tokens", name)) for name in ("web", "code", "maths")}

base = Mixture.of({"web": 0.7, "code": 0.2, "maths": 0.1})
schedule = Schedule.constant(base, 200 * BATCH * SEQ_LEN).switched(
    160 * BATCH * SEQ_LEN, Mixture.of({"web": 0.4, "code": 0.3, "maths": 0.3})
)
stream = MixtureStream(stores, schedule, seed=1, seq_len=SEQ_LEN, batch=BATCH)
print(ledger_table(ledger(stream.plan)))
for note in check_epochs(stream.plan)[1]:
    print(note)

with prefetch(stream) as batches:
    for _ in range(100):
        batch = next(batches)
    state = batches.state_dict()
inside = documents(batch, END)
print(
    f"\nbatch 100: {batch.shape} {batch.dtype}, {inside.cu_seqlens.size - 1} documents, {inside.loss_mask.mean():.1%} count"
)

ranks = [MixtureStream(stores, schedule, seed=1, seq_len=SEQ_LEN, batch=BATCH, rank=rank, world=2) for rank in range(2)]
for rank in ranks:
    rank.load_state_dict(state)
together = np.concatenate([next(rank) for rank in ranks])
alone = next(stream)
assert sorted(together[:, 0].tolist()) == sorted(alone[:, 0].tolist())
print("two ranks go on with the windows one would have had")

stream.change(Mixture.of({"web": 0.0, "code": 0.5, "maths": 0.5}))
next(stream)
drawn = np.bincount(stream.last[0], minlength=3)
print("after the change a batch holds", dict(zip(schedule.domains, drawn.tolist(), strict=True)))
