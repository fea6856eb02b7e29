"""What the compiled kernels count, in plain Python, slowly."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from mixwright.curate.counts import STOP_WORD_LIST
from mixwright.curate.kernels.characters import CJK_BLOCKS, SENTENCE_MARKS, UNSPACED_BLOCKS

CLOSERS = "\"')]’”»"
MASK = (1 << 64) - 1
POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")


def in_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def inside(character: str, blocks: Sequence[tuple[int, int]]) -> bool:
    return in_word(character) and any(start <= ord(character) <= stop for start, stop in blocks)


def words(text: str) -> list[str]:
    found: list[str] = []
    goes_on = False
    for character in text:
        lone = inside(character, UNSPACED_BLOCKS)
        if in_word(character):
            if goes_on and not lone:
                found[-1] += character
            else:
                found.append(character)
        goes_on = in_word(character) and not lone
    return found


def lower(word: str) -> str:
    return "".join(small if len(small := character.lower()) == 1 else character for character in word)


def word_hash(word: str) -> int:
    folded = b"".join(bytes([ord(c) | 0x20]) if ord(c) < 128 else c.encode() for c in lower(word))
    state = 0x9E3779B97F4A7C15
    for at in range(0, len(folded), 8):
        state = (state ^ int.from_bytes(folded[at : at + 8], "little")) * 0xBF58476D1CE4E5B9 & MASK
        state ^= state >> 32
    state = state * 0x94D049BB133111EB & MASK
    return state ^ state >> 29


def lone(text: str) -> int:
    return sum(inside(character, UNSPACED_BLOCKS) for character in text)


def sentence_ends(line: str) -> list[int]:
    """Where sentences end in a line with outer white space."""
    ends = []
    for at, character in enumerate(line):
        if character in SENTENCE_MARKS and ord(character) >= 0x3000:
            if at + 1 < len(line) and line[at + 1] in SENTENCE_MARKS:
                continue
            after = line[at + 1 :]
            ends.append(len(line) - len(after.lstrip(CLOSERS + "」』）】》〉")))
        elif not character.isspace() and (at + 1 == len(line) or line[at + 1].isspace()):
            left = line[: at + 1].split()[-1].rstrip(CLOSERS)
            # closers are stripped over white space too, as far as they reach
            if not left:
                left = closed(line[: at + 1])
            follows = line[at + 1 :].lstrip(" \t")[:1]
            if left and left[-1] in SENTENCE_MARKS and ord(left[-1]) < 0x3000 and not ("a" <= follows <= "z"):
                ends.append(at + 1)
    return ends


def closed(text: str) -> str:
    return text.rstrip(CLOSERS)


def paragraphs(text: str) -> Iterator[list[str]]:
    held: list[str] = []
    for line in text.split("\n"):
        if line.strip():
            held.append(line)
        elif held:
            yield held
            held = []
    if held:
        yield held


def repeated(parts: Sequence[object]) -> list[int]:
    seen: set[object] = set()
    again = []
    for at, part in enumerate(parts):
        if part in seen:
            again.append(at)
        seen.add(part)
    return again


def top_gram(held: Sequence[str], n: int) -> int:
    grams = [tuple(held[at : at + n]) for at in range(len(held) - n + 1)]
    small = [tuple(map(lower, gram)) for gram in grams]
    if not grams:
        return 0
    most, times = Counter(small).most_common(1)[0]
    return len(" ".join(grams[small.index(most)])) * times


def duplicate_grams(held: Sequence[str], n: int) -> int:
    seen, at, count = set(), 0, 0
    small = list(map(lower, held))
    while at + n <= len(held):
        gram = tuple(small[at : at + n])
        if gram in seen:
            count += sum(map(len, held[at : at + n]))
            at += n
        else:
            seen.add(gram)
            at += 1
    return count


def line_counts(raw: str) -> Counter[str]:
    """What a line adds to the counts of lines that are not blank."""
    line, found = raw.strip(), Counter[str]()
    pieces = line.split()
    ends = sentence_ends(raw)
    stop = len(raw.rstrip())
    sentences = len(ends) + (not ends or max(ends) != stop)
    cut = line
    while match := re.search(r"\[(?:[0-9]*|edit|citation needed)\]\Z", cut):
        cut = cut[: match.start()]
    terminal = tuple(".?!\"'" + SENTENCE_MARKS)
    ended = cut.endswith(terminal) and not cut.endswith("...")
    small = re.sub("[A-Z]+", lambda match: match[0].lower(), line)
    long = any(len(piece) - lone(piece) > 1000 for piece in pieces)
    few = len(pieces) + lone(line) < 3
    lorem, script, policy = "lorem ipsum" in small, "javascript" in small, any(phrase in small for phrase in POLICY)
    found["lines"] = 1
    found["bullet_lines"] = line[0] in "•-"
    found["ellipsis_lines"] = line.endswith(("...", "…"))
    found["punctuated_lines"] = raw.endswith(terminal)
    found["sentences"] = sentences
    found["unpunctuated_lines"] = not ended
    found["few_word_lines"] = few
    found["long_word_lines"] = long
    found["lorem_ipsum_lines"], found["javascript_lines"], found["policy_lines"] = lorem, script, policy
    if ended and not few and not long:
        if lorem or ("{" in line and not script):
            found["c4_refused_lines"] = 1
        elif not script and not policy:
            found["c4_lines"], found["c4_sentences"] = 1, sentences
    return found


def counts(text: str) -> dict[str, int]:
    """Every count of ``counts.NAMES``."""
    held, lines, pieces = words(text), text.split("\n"), text.split()
    found = Counter[str]()
    found["chars"] = len(text)
    found["word_chars"] = sum(map(len, held))
    for name, kind in (
        ("alnum", str.isalnum),
        ("decimal", str.isdecimal),
        ("upper", str.isupper),
        ("space", str.isspace),
    ):
        found[name] = sum(map(kind, text))
    found["cjk"] = sum(inside(character, CJK_BLOCKS) for character in text)
    found["hash"], found["brace"] = text.count("#"), text.count("{")
    found["ellipsis"] = text.count("...") + text.count("…")
    found["words"], found["pieces"] = len(held), len(pieces)
    found["line_words"] = len(pieces) + lone(text)
    found["alpha_pieces"] = sum(any(map(str.isalpha, piece)) for piece in pieces)
    found["longest_piece"] = max((len(piece) - lone(piece) for piece in pieces), default=0)
    stops = [lower(word) for word in held if lower(word) in STOP_WORD_LIST]
    found["stop_words"], found["stop_word_count"] = len(set(stops)), len(stops)
    found["newlines"] = text.count("\n")
    found["longest_line"] = max(map(len, lines))
    found["short_lines"], found["long_lines"] = sum(len(x) <= 30 for x in lines), sum(len(x) >= 200 for x in lines)
    for line in lines:
        if line.strip():
            found += line_counts(line)
    stripped = [line.strip() for line in lines if line.strip()]
    again = repeated(stripped)
    found["duplicate_lines"], found["duplicate_line_chars"] = len(again), sum(len(stripped[at]) for at in again)
    whole = list(paragraphs(text))
    again = repeated([tuple(line.strip() for line in lines) for lines in whole])
    found["paragraphs"], found["duplicate_paragraphs"] = len(whole), len(again)
    found["duplicate_paragraph_chars"] = sum(len("\n".join(whole[at]).strip()) for at in again)
    for n in range(2, 5):
        found[f"top_{n}gram"] = top_gram(held, n)
    for n in range(5, 11):
        found[f"duplicate_{n}gram"] = duplicate_grams(held, n)
    return found
