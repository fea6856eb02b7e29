"""datatrove's filters, rule by rule without early exit: `python datatrove_rules.py SAMPLE.parquet OUT.json`.

Every rule is a filter with all other conditions switched off, on a fresh copy of every document. OUT: rule -> for each
document true (kept), false (dropped) or null (the filter raised). ``--tokens FILE`` instead writes the tokens and the number
of sentences of every text of a JSON list.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.utils.text import split_into_sentences, split_into_words

QUALITY = {
    "gopher_short_doc": {"min_doc_words": 50},
    "gopher_long_doc": {"max_doc_words": 100000},
    "gopher_below_avg_threshold": {"min_avg_word_length": 3},
    "gopher_above_avg_threshold": {"max_avg_word_length": 10},
    "gopher_too_many_hashes": {"max_symbol_word_ratio": 0.1},
    "gopher_too_many_ellipsis": {"max_symbol_word_ratio": 0.1},
    "gopher_too_many_bullets": {"max_bullet_lines_ratio": 0.9},
    "gopher_too_many_end_ellipsis": {"max_ellipsis_lines_ratio": 0.3},
    "gopher_below_alpha_threshold": {"max_non_alpha_words_ratio": 0.8},
    "gopher_enough_stop_words": {"min_stop_words": 2},
}
NO_QUALITY = dict.fromkeys(
    ("min_doc_words", "max_doc_words", "min_avg_word_length", "max_avg_word_length", "max_symbol_word_ratio",
     "max_bullet_lines_ratio", "max_ellipsis_lines_ratio", "max_non_alpha_words_ratio", "min_stop_words")
)  # fmt: skip
NO_REPETITION: dict[str, Any] = {
    **dict.fromkeys(("dup_line_frac", "dup_para_frac", "dup_line_char_frac", "dup_para_char_frac")),
    "top_n_grams": (), "dup_n_grams": (),
}  # fmt: skip
REPETITION: dict[str, dict[str, Any]] = {
    "dup_para_frac": {"dup_para_frac": 0.3},
    "dup_para_char_frac": {"dup_para_char_frac": 0.2},
    "dup_line_frac": {"dup_line_frac": 0.3},
    "dup_line_char_frac": {"dup_line_char_frac": 0.2},
    **{f"top_{n}_gram": {"top_n_grams": ((n, share),)} for n, share in ((2, 0.2), (3, 0.18), (4, 0.16))},
    **{
        f"duplicated_{n}_n_grams": {"dup_n_grams": ((n, share),)}
        for n, share in ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))
    },
}
NO_C4 = {"filter_lorem_ipsum": False, "filter_curly_bracket": False, "min_num_sentences": -1}
C4 = {
    "lorem_ipsum": {"filter_lorem_ipsum": True},
    "curly_bracket": {"filter_curly_bracket": True},
    "too_few_sentences": {"min_num_sentences": 5},
}
NO_FINEWEB = {"line_punct_thr": -1.0, "short_line_thr": 2.0, "char_duplicates_ratio": 2.0, "new_line_ratio": 1e9}
FINEWEB = {
    "line_punct_ratio": {"line_punct_thr": 0.12},
    "short_line_ratio": {"short_line_thr": 0.67},
    "char_dup_ratio": {"char_duplicates_ratio": 0.01},
    "list_ratio": {"new_line_ratio": 0.3},
}


class Both(GopherQualityFilter):
    """The two rules that share a threshold: only one of them is asked about."""

    reason = ""

    def filter(self, doc: Document) -> Any:
        kept = super().filter(doc)
        if kept is True or kept[1] == self.reason:
            return kept
        text = doc.text.replace("#", "x") if self.reason == "gopher_too_many_ellipsis" else doc.text
        return super().filter(Document(text=text, id="0")) if text != doc.text else True


def filters() -> dict[str, Any]:
    """One filter for every rule."""
    made: dict[str, Any] = {}
    for name, given in QUALITY.items():
        made[name] = (Both if "max_symbol_word_ratio" in given else GopherQualityFilter)(**{**NO_QUALITY, **given})
        made[name].reason = name
    made |= {name: GopherRepetitionFilter(**{**NO_REPETITION, **given}) for name, given in REPETITION.items()}
    made |= {name: C4QualityFilter(**{**NO_C4, **given}) for name, given in C4.items()}
    return made | {name: FineWebQualityFilter(**{**NO_FINEWEB, **given}) for name, given in FINEWEB.items()}


def decided(rule: Any, text: str) -> bool | None:
    try:
        return rule.filter(Document(text=text, id="0")) is True
    except ZeroDivisionError:
        return None


def main() -> None:
    warnings.simplefilter("ignore")
    if sys.argv[1] == "--tokens":
        texts = json.loads(Path(sys.argv[2]).read_text())
        print(json.dumps([[split_into_words(text), len(split_into_sentences(text))] for text in texts]))
        return
    import pyarrow.parquet as pq

    texts = pq.read_table(sys.argv[1], columns=["text"])["text"].to_pylist()
    rules = filters()
    found: dict[str, list[bool | None]] = {name: [] for name in rules}
    for text in texts:  # words of one text are kept by datatrove for the next rule
        for name, rule in rules.items():
            found[name].append(decided(rule, text))
    Path(sys.argv[2]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
