"""The tokenizer: trained the same every time, or adopted from a file that is one."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from mixwright.core.errors import DataError
from mixwright.text.tokenizer import END, Options, adopt, facts, fingerprint, load, train

TEXTS = ["the cat sat on the mat", "a mat, a cat; naïve 日本 text", "x = {'a': 1}\n" * 50] * 20


def made(folder: Path, *tokens: str, name: str = "tokenizer.json") -> Path:
    tokenizer = Tokenizer(models.WordLevel({"cat": 0, "[UNK]": 1}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(list(tokens))
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / name))
    return folder / name


def test_training_is_deterministic(tmp_path: Path) -> None:
    first = train(iter(TEXTS), 400, tmp_path / "a.json")
    second = train(iter(TEXTS), 400, tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert first == second
    assert first.end_token == END
    assert first.vocab <= 400
    assert first.end == 0


def test_any_text_comes_back(tmp_path: Path) -> None:
    train(iter(TEXTS), 300, tmp_path / "t.json")
    tokenizer = load(tmp_path / "t.json")
    for text in ["", " lead", "ümläut €\t\r\n\x00", f"a {END} in the text"]:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text
        assert 0 not in ids


def test_adopting_a_folder(tmp_path: Path) -> None:
    made(tmp_path / "hf", "<stop>", "</s>")
    (tmp_path / "hf" / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<stop>"}}))
    found = adopt("hf", tmp_path, tmp_path / "out.json")
    assert (found.end_token, found.end, found.vocab) == ("<stop>", 2, 4)
    assert (tmp_path / "out.json").read_bytes() == (tmp_path / "hf" / "tokenizer.json").read_bytes()
    (tmp_path / "hf" / "tokenizer_config.json").unlink()
    assert adopt("hf/tokenizer.json", tmp_path, tmp_path / "out.json").end_token == "</s>"


def test_fingerprint(tmp_path: Path) -> None:
    assert fingerprint(Options(), tmp_path) == ""
    made(tmp_path, "</s>")
    first = fingerprint(Options(path="tokenizer.json"), tmp_path)
    made(tmp_path, "</s>", "<more>")
    assert fingerprint(Options(path="tokenizer.json"), tmp_path) != first


@pytest.mark.parametrize("content", ["", "not json", "{}", '{"version": "1.0", "model": {"type": "None"}}'])
def test_a_file_that_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "t.json").write_text(content)
    with pytest.raises(DataError, match=r"t\.json is not a tokenizer\.json"):
        adopt("t.json", tmp_path, tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def test_a_missing_file_and_a_missing_end(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no tokenizer at .*nowhere"):
        fingerprint(Options(path="nowhere"), tmp_path)
    file = made(tmp_path, "<odd>")
    with pytest.raises(DataError, match=r"no token that ends a document \(tried <\|endoftext\|>"):
        facts(file)
    with pytest.raises(DataError, match=r"tried '<none>'"):
        facts(file, "<none>")


def test_truncation_and_padding_are_switched_off(tmp_path: Path) -> None:
    train(iter(TEXTS), 300, tmp_path / "t.json")
    tokenizer = Tokenizer.from_file(str(tmp_path / "t.json"))
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=50)
    tokenizer.save(str(tmp_path / "t.json"))
    assert 3 < len(load(tmp_path / "t.json").encode("the cat sat on the mat").ids) < 50
