"""A Data-Juicer recipe as a ``curate`` section: every operator becomes rules of ours, or is named as one that cannot.

Parameters and defaults are those of Data-Juicer 1.0 to 1.4 (``data_juicer/ops``, Apache-2.0). Where an operator computes
something else than our signal does, the section says what; a parameter that has no counterpart is named too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixwright.core.errors import StudyError
from mixwright.curate.signals.language import LANGUAGES

#: what Data-Juicer writes where there is no upper bound (``sys.maxsize``)
_ENDLESS = 9223372036854775807
#: parameters that every operator of Data-Juicer has and that say only how it runs
_HOW_ONLY = frozenset({
    "accelerator", "auto_op_parallelism", "batch_size", "cpu_required", "gpu_required", "history_key", "mem_required",
    "index_key", "num_cpus", "num_gpus", "num_proc", "query_key", "response_key", "runtime_env", "save_stats_in_one_file",
    "skip_op_error", "turbo", "work_dir",
})  # fmt: skip


@dataclass(frozen=True)
class Converted:
    """``yaml_text`` is a ``curate:`` section with comments; ``mapped`` are the operators in it, ``unmapped`` those that are
    not, with the reason, in the recipe's order; ``notes`` say where numbers differ, operator by operator."""

    yaml_text: str
    mapped: tuple[str, ...]
    unmapped: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Part:
    """What an operator becomes."""

    keep: str | None = None
    measure: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rewrite: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dedup: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class _Unmapped(Exception):
    """Why an operator cannot be mapped."""


class _Given:
    """An operator's parameters; those that are never asked for are told at the end."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._left = {name: value for name, value in values.items() if name not in _HOW_ONLY}

    def take(self, name: str, default: Any) -> Any:
        """A parameter, or Data-Juicer's default."""
        return self._left.pop(name, default)

    def number(self, name: str, default: float) -> float:
        """A parameter that is a number."""
        value = self.take(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            raise _Unmapped(f"{name} is {value!r}, not a number")
        return value

    def only(self, name: str, wanted: Any, why: str) -> None:
        """A parameter that must have one value, its default."""
        value = self.take(name, wanted)
        if value != wanted:
            raise _Unmapped(f"{name}: {value!r} {why}")

    @property
    def left(self) -> dict[str, Any]:
        """What no one asked for."""
        return dict(self._left)


def convert(path: str | Path) -> Converted:
    """The ``curate`` section for a recipe; StudyError if the file is none."""
    recipe = _read(Path(path))
    mapped: list[str] = []
    unmapped: list[tuple[str, str]] = []
    parts: list[tuple[str, _Part]] = []
    notes: list[str] = []
    for name, values in _operators(recipe, Path(path)):
        try:
            part = _convert_one(name, values)
            _merge_dedup({}, [*parts, (name, part)])
        except _Unmapped as reason:
            unmapped.append((name, str(reason)))
            continue
        mapped.append(name)
        parts.append((name, part))
        notes += [f"{name}: {note}" for note in part.notes]
    notes += _order_notes([name for name, _ in _operators(recipe, Path(path))])
    notes += _around(recipe)
    text = _written(Path(path).name, parts, unmapped, notes)
    return Converted(text, tuple(mapped), tuple(unmapped), tuple(notes))


def _read(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        recipe = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise StudyError(f"The recipe {path} cannot be read ({error.strerror}). Correct the path.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"The recipe {path} is not YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(recipe, dict) or not isinstance(recipe.get("process"), list):
        raise StudyError(f"{path} is no Data-Juicer recipe: it has no list of operators under process.")
    return recipe


def _operators(recipe: Mapping[str, Any], path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    found = []
    for number, one in enumerate(recipe["process"], start=1):
        entry = {one: None} if isinstance(one, str) else one
        if not isinstance(entry, dict) or len(entry) != 1 or not isinstance(next(iter(entry.values())) or {}, dict):
            raise StudyError(f"{path}: operator {number} of process is {one!r}; it must be a name with its parameters.")
        ((name, values),) = entry.items()
        found.append((str(name), values or {}))
    return found


def _convert_one(name: str, values: Mapping[str, Any]) -> _Part:
    if name not in _OPERATORS:
        raise _Unmapped(_WHY_NOT.get(name, _kind_reason(name)))
    given = _Given(values)
    key = given.take("text_key", "text")
    part = _OPERATORS[name](given)
    more = [f"text_key: {key!r} is not mapped; name the field as text of the source"] if key != "text" else []
    more += [f"the parameter {left}: {value!r} is not mapped" for left, value in given.left.items()]
    return _Part(part.keep, part.measure, part.rewrite, part.dedup, (*part.notes, *more))


def _kind_reason(name: str) -> str:
    if name.endswith("_mapper"):
        return "it changes or makes text in a way that has no counterpart"
    if name.endswith(("_selector", "_grouper", "_aggregator")):
        return "choosing rows by their rank is mixwright select's, not curation's"
    if any(word in name for word in ("image", "video", "audio")):
        return "mixwright reads text only"
    return "it has no counterpart"


# ---- operators: filters


def _within(given: _Given, expression: str, names: tuple[str, str], low: float, high: float) -> str | None:
    least, most = given.number(names[0], low), given.number(names[1], high)
    if most >= _ENDLESS:
        most = math.inf
    if least > most:
        raise _Unmapped(f"{names[0]} {least} lies above {names[1]} {most}: it drops every row")
    left = f"{_plain(least)} <= " if least > -math.inf else ""
    right = f" <= {_plain(most)}" if most < math.inf else ""
    return f"{left}{expression}{right}" if left or right else None


def _plain(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:.12f}".rstrip("0")


def _no_model(given: _Given) -> None:
    given.only("tokenization", False, "counts the pieces of a sentencepiece model, which no signal here does")
    given.take("lang", "en")


_LINES = "it also ends lines at \\r, \\v, \\f and other characters of str.splitlines; here a line ends at a line feed"
_WORDS = (
    "its words are what stands between spaces, tabs and line feeds; here a word is a run of letters, digits and _, and in "
    "scripts without spaces each character"
)


def _text_length(given: _Given) -> _Part:
    return _Part(_within(given, "chars", ("min_len", "max_len"), 10, math.inf))


def _words_num(given: _Given) -> _Part:
    _no_model(given)
    return _Part(_within(given, "words", ("min_num", "max_num"), 10, math.inf), notes=(_WORDS,))


def _alphanumeric(given: _Given) -> _Part:
    given.only("tokenization", False, "divides by the tokens of a Hugging Face model, which no signal here does")
    return _Part(_within(given, "alnum_ratio", ("min_ratio", "max_ratio"), 0.25, math.inf))


def _average_line(given: _Given) -> _Part:
    note = f"it counts blank lines, here they count only as the characters they are; {_LINES}"
    return _Part(_within(given, "chars / lines", ("min_len", "max_len"), 10, math.inf), notes=(note,))


def _maximum_line(given: _Given) -> _Part:
    return _Part(_within(given, "longest_line", ("min_len", "max_len"), 10, math.inf), notes=(_LINES,))


def _special_characters(given: _Given) -> _Part:
    note = (
        "it counts ASCII punctuation, digits, white space, emoji and a list of symbols; here everything that is no letter "
        "of any script"
    )
    expression = "symbol_ratio + digit_ratio + whitespace_ratio"
    return _Part(_within(given, expression, ("min_ratio", "max_ratio"), 0.0, 0.25), notes=(note,))


def _repetition(which: str) -> Callable[[_Given], _Part]:
    def converted(given: _Given) -> _Part:
        if which == "word":
            _no_model(given)
        n = given.number("rep_len", 10)
        name = f"{which}_{_plain(n)}gram"
        measure = {name: {"signal": "ngram_repetition", f"{which}_ngram": int(n)}}
        notes = (f"{_WORDS}; it strips punctuation, digits and symbols from a word's ends",) if which == "word" else ()
        column = f"{name}.{which}_ngram_repetition"
        return _Part(_within(given, column, ("min_ratio", "max_ratio"), 0.0, 0.5), measure, notes=notes)

    return converted


def _language(given: _Given) -> _Part:
    wanted, least = given.take("lang", ""), given.number("min_score", 0.8)
    languages = [wanted] if isinstance(wanted, str) else list(wanted or [])
    languages = [str(one) for one in languages if one]
    unknown = [one for one in languages if one not in LANGUAGES]
    if unknown:
        raise _Unmapped(f"the language model knows no language {', '.join(unknown)}")
    which = f" and lang in ({', '.join(json.dumps(one) for one in languages)})" if languages else ""
    note = "it reads the whole text, here at most 1 kB from four places of it; the model is the compressed lid.176.ftz"
    return _Part(f"lang_score >= {_plain(least)}{which}", {"language": {"lowercase": True}}, notes=(note,))


def _token_num(given: _Given) -> _Part:
    name = str(given.take("hf_tokenizer", "EleutherAI/pythia-6.9b-deduped"))
    note = f"tokenizer: {name} must be a local folder with a tokenizer.json"
    return _Part(
        _within(given, "tokens", ("min_num", "max_num"), 10, math.inf), {"tokens": {"tokenizer": name}}, notes=(note,)
    )


def _word_list(which: str, folder: str, low: float, high: float) -> Callable[[_Given], _Part]:
    def converted(given: _Given) -> _Part:
        language = str(given.take("lang", "en"))
        given.only("tokenization", False, "counts the pieces of a sentencepiece model, which no signal here does")
        given.only("use_words_aug", False, "joins words that stand side by side; write such phrases into the list")
        given.take("words_aug_group_sizes", None)
        given.take("words_aug_join_char", None)
        name = f"{which}_{''.join(letter if letter.isalnum() else '_' for letter in language)}"
        place = given.take(folder, "its assets")
        measure = {name: {"signal": "word_list", "path": f"{name}.txt"}}
        notes = (f"write its words for {language} ({which}*.json in {place}) into {name}.txt, one a line", _WORDS)
        keep = _within(given, f"{name}.word_list_ratio", ("min_ratio", "max_ratio"), low, high)
        return _Part(keep, measure, notes=notes)

    return converted


def _llm_perplexity(given: _Given) -> _Part:
    model, most = _model(given)
    given.only("query_template", None, "scores a text behind a query: use ifd, and its column ifd_answer_loss")
    response = given.take("response_template", None)
    if response not in (None, "{text}"):
        raise _Unmapped(f"response_template: {response!r} scores a text that is put together from fields")
    keep = _within(given, "lm_perplexity", ("min_score", "max_score"), 1.0, 100.0)
    notes = (
        f"model: {model} must be the folder of a local model",
        "it reads a text of any length; here set long: stride or max_tokens for texts of more than 1024 tokens",
    )
    return _Part(keep, {"perplexity": {"model": model, **most}}, notes=notes)


def _ifd(given: _Given) -> _Part:
    model, most = _model(given)
    for name in ("query_template", "response_template"):
        value = given.take(name, None)
        if value:
            given._left[name] = value  # told as a parameter that is not mapped
    keep = _within(given, "ifd_loss", ("min_score", "max_score"), 1.0, 100.0)
    notes = (
        f"model: {model} must be the folder of a local model; prompt and response are fields of the source",
        "it joins query and response by a space and finds the response by its number of tokens; here a line feed stands "
        "between, tokens are joined, and the same tokens count in both passes",
    )
    return _Part(keep, {"ifd": {"model": model, "template": "plain", **most}}, notes=notes)


def _model(given: _Given) -> tuple[str, dict[str, Any]]:
    name, settings = given.take("hf_model", "Qwen/Qwen2.5-0.5B"), dict(given.take("model_params", None) or {})
    longest = settings.pop("max_length", None)
    if settings:
        given._left["model_params"] = settings  # told as a parameter that is not mapped
    return str(name), {"max_tokens": longest} if longest else {}


# ---- operators: duplicates


def _exact(given: _Given) -> _Part:
    chosen = {name: bool(given.take(name, False)) for name in ("lowercase", "ignore_non_character")}
    exact: Any = chosen if any(chosen.values()) else True
    return _Part(dedup={"exact": exact, "prefer": "first"})


def _minhash(given: _Given) -> _Part:
    how = given.take("tokenization", "space")
    if how not in ("space", "punctuation"):
        raise _Unmapped(
            f"tokenization: {how!r} compares n-grams of its pieces; dedup.near compares words, each character one in scripts "
            "without spaces"
        )
    given.only("lowercase", True, "tells small letters from capital ones; dedup.near does not")
    given.only("ignore_pattern", None, "leaves parts of a text out")
    near = {"threshold": given.number("jaccard_threshold", 0.7), "ngram": int(given.number("window_size", 5))}
    notes = [
        "it drops what its sketches call similar, here the Jaccard similarity of every pair is computed",
        f"tokenization {how}: {_WORDS}",
        "of a chain of similar texts it keeps one; here each dropped row has a kept one at or above the threshold",
    ]
    for name, default in (("num_permutations", 256), ("num_bands", None), ("num_rows_per_band", None)):
        value = given.take(name, default)
        if value != default:
            notes.append(f"{name}: {value!r} is not needed: bands are set for recall, the threshold is exact")
    return _Part(dedup={"near": near, "prefer": "first"}, notes=tuple(notes))


# ---- operators: rewrites


def _masked(kind: str) -> Callable[[_Given], _Part]:
    def converted(given: _Given) -> _Part:
        pattern, put_in = given.take("pattern", None), given.take("repl", "")
        if pattern:
            raise _Unmapped(f"pattern: {pattern!r} is a regular expression of its own")
        note = f"what {kind} are is defined by the signal contacts_and_secrets, not by its regular expression"
        return _Part(rewrite={"mask": {"kinds": [kind], "masks": {kind: str(put_in)}}}, notes=(note,))

    return converted


def _fix_unicode(given: _Given) -> _Part:
    form = str(given.take("normalization", None) or "NFC").lower()
    if form not in ("nfc", "nfkc"):
        raise _Unmapped(f"normalization: {form!r} is none of nfc, nfkc")
    note = "it also repairs text that was decoded wrongly (ftfy), here texts are only normalized"
    return _Part(rewrite={"unicode": {"form": form}}, notes=(note,))


_OPERATORS: Mapping[str, Callable[[_Given], _Part]] = {
    "text_length_filter": _text_length,
    "words_num_filter": _words_num,
    "alphanumeric_filter": _alphanumeric,
    "average_line_length_filter": _average_line,
    "maximum_line_length_filter": _maximum_line,
    "special_characters_filter": _special_characters,
    "character_repetition_filter": _repetition("char"),
    "word_repetition_filter": _repetition("word"),
    "language_id_score_filter": _language,
    "token_num_filter": _token_num,
    "stopwords_filter": _word_list("stopwords", "stopwords_dir", 0.3, math.inf),
    "flagged_words_filter": _word_list("flagged_words", "flagged_words_dir", -math.inf, 0.045),
    "llm_perplexity_filter": _llm_perplexity,
    "instruction_following_difficulty_filter": _ifd,
    "document_deduplicator": _exact,
    "ray_document_deduplicator": _exact,
    "document_minhash_deduplicator": _minhash,
    "clean_email_mapper": _masked("emails"),
    "clean_links_mapper": _masked("urls"),
    "clean_ip_mapper": _masked("ips"),
    "fix_unicode_mapper": _fix_unicode,
}

_WHY_NOT: Mapping[str, str] = {
    "perplexity_filter": (
        "its KenLM models of Wikipedia are not here and perplexities of other models have another scale; measure "
        "reference_perplexity or perplexity, and bound it by percentiles (p25 per language)"
    ),
    "document_simhash_deduplicator": "dedup.near finds near-duplicates by exact Jaccard similarity; set its threshold",
    "ray_bts_minhash_deduplicator": "it is document_minhash_deduplicator on Ray: name that one, and engine: ray",
    "suffix_filter": "name the files in the source's path: '**/*.txt'",
    "specified_field_filter": "rules look at measured numbers, not at fields; make a source of the rows that are wanted",
    "specified_numeric_field_filter": "rules look at measured numbers, not at fields of rows",
    "general_field_filter": "rules look at measured numbers, not at fields of rows",
}

_Section = dict[str, dict[str, Any]]


# ---- the section


def _order_notes(names: Sequence[str]) -> list[str]:
    """Data-Juicer's operators work one after another; ours have a fixed order."""
    notes = []
    filters = [at for at, name in enumerate(names) if name.endswith("_filter")]
    mappers = [at for at, name in enumerate(names) if name.endswith("_mapper")]
    duplicates = [at for at, name in enumerate(names) if name.endswith("_deduplicator")]
    if filters and mappers and max(mappers) > min(filters):
        notes.append("order: a mapper stands behind a filter; here texts are rewritten before anything is measured")
    if duplicates and max([*filters, *mappers], default=-1) > min(duplicates):
        notes.append(
            "order: a deduplicator stands before other operators; here duplicates are looked for among rows that pass all rules"
        )
    return notes


def _around(recipe: Mapping[str, Any]) -> list[str]:
    """Settings beside the operators: where each goes, or that it goes nowhere."""
    places = {
        "dataset_path": "the path of a source", "dataset": "sources", "text_keys": "the text of a source",
        "suffixes": "the end of a source's path", "export_path": "the study's work folder",
        "np": "engine.workers", "executor_type": "engine.kind (local or ray)", "ray_address": "engine.address",
        "project_name": "the study file's name", "op_fusion": "always: signals share one pass",
        "use_checkpoint": "always: a curation goes on where it stopped", "open_tracer": "always: the ledger",
    }  # fmt: skip
    return [
        f"setting {name}: {json.dumps(value, ensure_ascii=False, default=str)} -> {places.get(name, 'no counterpart')}"
        for name, value in recipe.items()
        if name != "process"
    ]


def _merge_dedup(into: dict[str, Any], parts: Sequence[tuple[str, _Part]]) -> dict[str, Any]:
    for _, part in parts:
        for key, value in part.dedup.items():
            if key in into and into[key] != value:
                raise _Unmapped(f"another operator has set dedup.{key} to {into[key]!r}; it would be {value!r}")
            into[key] = value
    return into


def _sections(parts: Sequence[tuple[str, _Part]]) -> _Section:
    found: _Section = {"measure": {}, "rewrite": {}, "keep": {}, "dedup": _merge_dedup({}, parts)}
    for name, part in parts:
        found["measure"].update({key: dict(value) for key, value in part.measure.items()})
        for key, value in part.rewrite.items():
            held = found["rewrite"].setdefault(key, {})
            for option, one in value.items():
                if isinstance(one, list):
                    held[option] = [*held.get(option, []), *(item for item in one if item not in held.get(option, []))]
                elif isinstance(one, dict):
                    held[option] = {**held.get(option, {}), **one}
                else:
                    held[option] = one
        if part.keep is not None:
            number = 1 + sum(key.partition("#")[0] == name for key in found["keep"])
            found["keep"][name if number == 1 else f"{name}#{number}"] = part.keep
    return {name: values for name, values in found.items() if values}


def _written(
    recipe: str, parts: Sequence[tuple[str, _Part]], unmapped: Sequence[tuple[str, str]], notes: Sequence[str]
) -> str:
    lines = [f"# From the Data-Juicer recipe {recipe}: {len(parts)} operators mapped, {len(unmapped)} not."]
    if unmapped:
        lines.append("# Not mapped:")
        lines += [f"#   {name}: {reason}" for name, reason in unmapped]
    if notes:
        lines.append("# What differs:")
        lines += [f"#   {note}" for note in notes]
    lines = [" ".join(line.split("\n")) for line in lines]  # no name or value of the recipe ends a comment
    sections = _sections(parts)
    lines.append("curate:" if sections else "curate: {}")
    for name, values in sections.items():
        lines.append(f"  {name}:")
        lines += [f"    {json.dumps(key) if '#' in key else key}: {_flow(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    """A value on one line of YAML: JSON, which YAML contains."""
    return json.dumps(value, ensure_ascii=False)
