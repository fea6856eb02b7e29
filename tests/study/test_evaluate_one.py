"""A model trained here is measured: on held-out text, on tasks of local files, as checkpoint and as Hugging Face folder."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from small_study import STUDY, WORDS, documents, write_jsonl

from mixwright.core.errors import DataError, StudyError
from mixwright.core.mixture import Mixture
from mixwright.core.rng import rng
from mixwright.core.run import ModelSize, Run
from mixwright.core.schedule import Schedule
from mixwright.engine.local import LocalEngine
from mixwright.store import hf
from mixwright.study import evaluate_one
from mixwright.study.config import read_study
from mixwright.study.evaluate_one import evaluate, export_model, subject_of, table
from mixwright.study.flow import Flow
from mixwright.train.evaluate import open_metrics
from mixwright.train.held_out import _retokenized, losses_task
from mixwright.train.sweep import sweep

torch = pytest.importorskip("torch")
pytest.importorskip("lm_eval")

pytestmark = pytest.mark.filterwarnings("ignore")  # of other people's packages

CHOICE = """\
task: next_word
dataset_path: json
dataset_kwargs: {data_files: {test: next_word.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{start}}"
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""
TEXT = """\
task: new_text
dataset_path: json
dataset_kwargs: {data_files: {test: new_text.jsonl}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list:
  - {metric: bits_per_byte, aggregation: bits_per_byte, higher_is_better: false}
  - {metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}
"""
TEXTS = ["the old river", "walked slowly under the bridge", "let epsilon", "import range", "prime series bound"]


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A folder with a study's text, tokens, one trained run, and two tasks."""
    folder = tmp_path_factory.mktemp("study")
    for seed, kind in enumerate(WORDS):
        write_jsonl(folder / "data" / f"{kind}.jsonl", documents(kind, 80, seed))
    write_jsonl(folder / "data" / "targets" / "letters.jsonl", documents("prose", 30, 99))
    (folder / "study.yaml").write_text(STUDY.replace("workers: 2", "workers: 1"))
    flow = Flow(read_study(folder / "study.yaml"))
    run = Run("trained", Schedule.constant(Mixture.uniform(flow.corpus.names), 32_000), ModelSize(32, 1), 3)
    sweep(
        [run], flow.study.trainer, workspace=flow.workspace, corpus=flow.make("tokenize"), engine=LocalEngine(1),
        checkpoints={"trained": (32_000,)},
    )  # fmt: skip
    tasks = folder / "tasks"
    (tasks / "inside").mkdir(parents=True)
    (tasks / "inside" / "next_word.yaml").write_text(CHOICE)
    (tasks / "new_text.yaml").write_text(TEXT)
    draw, rows = rng(0, "choices"), []
    for _ in range(40):
        kind, other = draw.permutation(list(WORDS))[:2]
        start = " ".join(str(word) for word in draw.choice(WORDS[kind], 10))
        good, bad = f" {draw.choice(WORDS[kind])}", f" {draw.choice(WORDS[other])}"
        answer = int(draw.integers(2))
        rows.append({"start": start, "choices": [good, bad] if answer == 0 else [bad, good], "answer": answer})
    (tasks / "next_word.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_jsonl(tasks / "new_text.jsonl", TEXTS)
    return folder


@pytest.fixture
def flow(study, monkeypatch, tmp_path_factory) -> Flow:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path_factory.getbasetemp() / "hf"))
    return Flow(read_study(study / "study.yaml"))


@pytest.fixture
def exported(study, flow) -> Path:
    return export_model(flow, "trained", study / "exported")


def finished(flow: Flow) -> Path:
    (run,) = flow.workspace.all("runs")
    return run.path


def bits_per_byte(flow: Flow) -> float:
    """Of the texts, by our own model: each after the id that ends a document."""
    from mixwright.text import tokenizer as tokenizers
    from mixwright.train.hf_llama import load_checkpoint

    corpus = flow.make("tokenize").path
    encoder, end = tokenizers.load(corpus / "tokenizer.json"), json.loads((corpus / "facts.json").read_text())["end"]
    model, nats = load_checkpoint(next(finished(flow).glob("checkpoint-*")))[0], 0.0
    for text in TEXTS:
        ids = torch.tensor([[end, *encoder.encode(text, add_special_tokens=False).ids]])
        with torch.no_grad():
            nats += float(model(ids[:, :-1], ids[:, 1:]).sum())
    return nats / sum(len(text.encode()) for text in TEXTS) / math.log(2)


def test_a_run_is_measured_on_held_out_text_and_on_tasks_of_local_files(study, flow, monkeypatch) -> None:
    asked = {"tasks": ("next_word", "new_text"), "include": study / "tasks", "tokens": 512}
    result = evaluate(flow, "trained", **asked, out=study / "out" / "result.json")
    measured = json.loads((finished(flow) / "observation.json").read_text())
    assert {name: row["loss"] for name, row in result["losses"].items()} == pytest.approx(measured["losses"], abs=1e-5)
    for name, row in result["losses"].items():
        assert row["bits_per_byte"] == pytest.approx(measured["bpb"][name], abs=1e-5)
        assert row["tokens"] == 512
        assert 0 < row["standard_error"] < 0.5
    choice, text = result["tasks"]["next_word"], result["tasks"]["new_text"]
    assert choice["samples"] == 40
    assert choice["metrics"]["acc"]["value"] > 0.75
    p = choice["metrics"]["acc"]["value"]
    assert choice["metrics"]["acc"]["standard_error"] == pytest.approx(math.sqrt(p * (1 - p) / 39), rel=1e-6)
    assert text["metrics"]["bits_per_byte"]["value"] == pytest.approx(bits_per_byte(flow), abs=1e-4)
    assert 0 < text["metrics"]["word_perplexity"]["standard_error"] < text["metrics"]["word_perplexity"]["value"]
    assert text["metrics"]["bits_per_byte"]["higher_is_better"] is False
    assert json.loads((study / "out" / "result.json").read_text()) == result
    assert "next_word" in table(result)
    assert "nats/token" in table(result)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it was measured again")

    monkeypatch.setattr(evaluate_one, "LocalEngine", refuse)
    assert evaluate(flow, finished(flow), **asked)["tasks"] == result["tasks"]
    assert evaluate(flow, next(finished(flow).glob("checkpoint-*")), **asked)["losses"] == result["losses"]


def test_a_hugging_face_folder_reads_the_same_windows(flow, exported) -> None:
    corpus = flow.make("tokenize").path
    told = {"corpus": str(corpus), "seq_len": 32, "tokens": 512, "device": "cpu"}
    checkpoint = next(finished(flow).glob("checkpoint-*"))
    ours = losses_task(lambda *_, **__: None, model=str(checkpoint), **told)
    theirs = losses_task(lambda *_, **__: None, model=str(exported), **told)
    assert {n: r["loss"] for n, r in theirs.items()} == pytest.approx({n: r["loss"] for n, r in ours.items()}, abs=1e-5)
    subject = subject_of(flow, exported)
    assert subject.corpus is not None
    assert (subject.seq_len, subject.run["run_id"]) == (32, "trained")


def test_text_in_another_tokenizer_is_the_same_text(flow, exported, tmp_path) -> None:
    corpus = flow.make("tokenize").path
    same = open_metrics(corpus, seq_len=32, tokens=10**9)
    again = _retokenized(exported, corpus, seq_len=32, tokens=10**9)
    for one, other in zip(same, again, strict=True):
        assert np.array_equal(one.windows, other.windows)
        assert one.bytes_per_token == pytest.approx(other.bytes_per_token)
    letters = tmp_path / "letters"
    letters.mkdir()
    for file in exported.iterdir():
        (letters / file.name).write_bytes(file.read_bytes())
    values = json.loads((letters / "tokenizer.json").read_text())
    values["model"]["merges"] = []
    (letters / "tokenizer.json").write_text(json.dumps(values))
    bytes_alone = _retokenized(letters, corpus, seq_len=32, tokens=10**9)
    count = len(documents("prose", 30, 99))
    assert bytes_alone[-1].bytes_per_token == pytest.approx(1 - count / (bytes_alone[-1].windows.size), abs=2e-2)
    found = losses_task(
        lambda *_, **__: None, model=str(letters), corpus=str(corpus), seq_len=32, tokens=None, device="cpu"
    )
    assert all(row["bits_per_byte"] > 0 for row in found.values())


def harness(study: Path, tasks: list[str], include: Path | None = None, model: str = "") -> dict:
    from mixwright.train.harness import tasks_task

    return tasks_task(
        lambda *_, **__: None, model=model, tasks=tasks, include=str(include or study / "tasks"), limit=None, shots=None,
        batch=4, device="cpu", seed=0,
    )  # fmt: skip


def test_tasks_that_cannot_be_had_are_told(study, flow, tmp_path) -> None:
    with pytest.raises(StudyError, match=r"There is no folder of tasks at .*nowhere"):
        harness(study, ["next_word"], study / "nowhere")
    with pytest.raises(StudyError, match=r"holds no task: a task is a \.yaml file that says task: NAME"):
        harness(study, ["next_word"], tmp_path)
    (tmp_path / "bad.yaml").write_text("task: [x\n")
    with pytest.raises(StudyError, match=r"The task file .*bad.yaml cannot be read: .*line 2"):
        harness(study, ["x"], tmp_path)
    (tmp_path / "bad.yaml").write_text(CHOICE)
    with pytest.raises(DataError, match=r"The data of task next_word cannot be loaded: .*next_word.jsonl"):
        harness(study, ["next_word"], tmp_path)
    (tmp_path / "next_word.jsonl").write_text("nonsense\n")
    with pytest.raises(DataError, match="The data of task next_word cannot be loaded"):
        harness(study, ["next_word"], tmp_path)


@pytest.mark.long  # the harness reads all its own task files: ten seconds
def test_a_wrong_name_suggests_the_near_one(study, flow) -> None:
    with pytest.raises(StudyError, match=r"There is no task 'next_wrod'\. Did you mean 'next_word'\?"):
        harness(study, ["next_wrod"])


def test_what_is_no_model_is_told(study, flow, tmp_path) -> None:
    with pytest.raises(
        StudyError, match="There is no model 'nothing': it is no folder, nor a run of the study that keeps"
    ):
        evaluate(flow, "nothing")
    with pytest.raises(StudyError, match=r"holds no model: no config\.json .* it is no run either"):
        evaluate(flow, tmp_path)
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
    with pytest.raises(DataError, match="so it holds no whole model"):
        evaluate(flow, tmp_path, tasks=("next_word",), include=study / "tasks")
    with pytest.raises(StudyError, match="can be measured on nothing"):
        evaluate(None, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(DataError, match="cannot be loaded as a language model"):
        losses_task(
            lambda *_, **__: None, model=str(tmp_path), corpus=str(flow.make("tokenize").path), seq_len=32, tokens=64,
            device="cpu",
        )  # fmt: skip


def test_without_a_study_a_run_knows_its_corpus(study, flow) -> None:
    subject = subject_of(None, finished(flow))
    assert subject.corpus is not None
    assert subject.corpus.key == flow.key("tokenize")
    assert hf.tokenizer_hash(subject.corpus.path) == flow.corpus.tokenizer


def test_a_standard_error_of_a_ratio_is_that_of_resampled_documents() -> None:
    from mixwright.train.harness import _standard_error

    draw = np.random.default_rng(0)
    weights = draw.integers(50, 150, 400).astype(float)
    rows = np.stack([-weights * draw.normal(2.0, 0.4, 400), weights], axis=1)
    picks = draw.integers(0, 400, (2000, 400))
    resampled = -rows[picks, 0].sum(1) / rows[picks, 1].sum(1)
    assert _standard_error("bits_per_byte", rows.tolist()) == pytest.approx(resampled.std() / math.log(2), rel=0.06)
    assert _standard_error("byte_perplexity", rows.tolist()) == pytest.approx(np.exp(resampled).std(), rel=0.06)
    assert _standard_error("acc", [[1.0]] * 5) is None
