"""The tokens and sentences that datatrove sees in English text: those of spaCy's blank English tokenizer, without spaCy.

Reproduces spaCy 3.8 (``blank("en")`` with the sentencizer) as datatrove 0.10 calls it. A chunk is what stands between
white space. From a chunk prefixes and suffixes are split off, one of each at a time, until none is left or the rest is a
special case; the rest is a special case, a URL, or split at infixes; last, special cases that the tokens spell out again
(``:`` ``)``) are joined. Chunks are tokenized on their own and kept, so a text costs about one look-up a chunk; what spaCy
finds across a blank (``: p.`` keeps it from joining ``p`` and ``.``) is not reproduced: 2 documents in 1,000 differ in a word.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache

#: blocks of scripts without case that count as letters on both sides of an infix
_UNCASED = (
    (0x591, 0x5F4), (0x620, 0x64A), (0x66E, 0x6D5), (0x6E5, 0x6FF), (0x750, 0x77F), (0x8A0, 0x8BD), (0x900, 0x9FF),
    (0xB80, 0xCFF), (0xD80, 0xDFF), (0x1100, 0x137F), (0x2E80, 0x2FDF), (0x2FF0, 0x30FF), (0x31C0, 0x31EF), (0x3200, 0x4DBF),
    (0x4E00, 0x9FFF), (0xAC00, 0xD7AF), (0xF900, 0xFAFF), (0xFB1D, 0xFBB1), (0xFBD3, 0xFD3D), (0xFD50, 0xFDC7),
    (0xFDF0, 0xFDFB), (0xFE30, 0xFE4F), (0xFE70, 0xFEFC), (0x1EE00, 0x1EEBB), (0x1F200, 0x1F2FF), (0x20000, 0x2A6DF),
    (0x2A700, 0x2EBEF), (0x2F800, 0x2FA1F),
)  # fmt: skip
#: letters with case beside the Latin ones: modern Greek; Russian, Ukrainian, Macedonian, Tatar
_CASED = "ΆΈ-ΊΌΎ-ΩάέίόώήύαβγδεζηθικλμνξοπρςστυφχψωЀЁЃЄІЇЈЉЊЌЍА-яѐёѓєѕіїјљњќѝҐґҖҗҢңҮүҺһӘәӨөЅ"
#: symbols that came after the list was made (Unicode 12 and later)
_LATER = (
    (0x166D, 0x166D), (0x2B97, 0x2B97), (0x2BC9, 0x2BC9), (0x2BFF, 0x2BFF), (0x2E50, 0x2E51), (0x31EF, 0x31EF),
    (0x32FF, 0x32FF), (0xFD40, 0xFD4F), (0xFDCF, 0xFDCF), (0xFDFE, 0xFDFF), (0x1019C, 0x1019C), (0x11FD5, 0x11FF1),
    (0x1CF50, 0x1CFC3), (0x1D1E9, 0x1D1EA), (0x1E14F, 0x1E14F), (0x1ED2E, 0x1ED2E), (0x1F10D, 0x1F10F), (0x1F16C, 0x1F16F),
    (0x1F1AD, 0x1F1AD), (0x1F6D5, 0x1F6DF), (0x1F6FA, 0x1F6FC), (0x1F774, 0x1F77F), (0x1F7D9, 0x1F7F0), (0x1F8B0, 0x1F8B1),
    (0x1F90C, 0x1F90F), (0x1F93F, 0x1F93F), (0x1F971, 0x1F972), (0x1F977, 0x1F979), (0x1F97B, 0x1F97B), (0x1F9A3, 0x1F9AF),
    (0x1F9BA, 0x1F9BF), (0x1F9C3, 0x1F9CF), (0x1FA00, 0x1FA53), (0x1FA6E, 0x1FBCA),
)  # fmt: skip
_PUNCT = set("…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪")
_QUOTES = set("'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》〈〉⟦⟧\u2329\u232a")
_CURRENCIES = "$£€¥฿₽﷼₴₠₡₢₣₤₥₦₧₨₩₪₫₭₮₯₰₱₲₳₵₶₷₸₹₺₻₼₾₿"
_DOLLARS = ("US$", "C$", "A$")
_UNITS = (
    "km km² km³ m m² m³ dm dm² dm³ cm cm² cm³ mm mm² mm³ ha µm nm yd in ft kg g mg µg t lb oz m/s km/h kmh mph hPa Pa "
    "mbar mb MB kb KB gb GB tb TB T G M K % км км² км³ м м² м³ дм дм² дм³ см см² см³ мм мм² мм³ нм кг г мг м/с км/ч кПа "
    "Па мбар Кб КБ кб Мб МБ мб Гб ГБ гб Тб ТБ كم² كم³ م م² م³ سم سم² سم³ مم مم² مم³ كم غرام جرام جم كغ ملغ كوب اكواب"
)
#: ends of sentences (the sentencizer's own list)
STOPS = frozenset(
    "!.?։؟۔܀܁܂߹।॥၊။።፧፨᙮᜵᜶᠃᠉᥄᥅᪨᪩᪪᪫᭚᭛᭞᭟᰻᰼᱾᱿‼‽⁇⁈⁉⸮⸼꓿꘎꘏꛳꛷꡶꡷꣎꣏꤯꧈꧉꩝꩞꩟꫰꫱꯫﹒﹖﹗！．？𐩖𐩗𑁇𑁈𑂾𑂿𑃀𑃁𑅁𑅂𑅃𑇅𑇆𑇍𑇞𑇟𑈸𑈹𑈻𑈼"
    "𑊩𑑋𑑌𑗂𑗃𑗉𑗊𑗋𑗌𑗍𑗎𑗏𑗐𑗑𑗒𑗓𑗔𑗕𑗖𑗗𑙁𑙂𑜼𑜽𑜾𑩂𑩃𑪛𑪜𑱁𑱂𖩮𖩯𖫵𖬷𖬸𖭄𛲟𝪈｡。"
)
_EMOTICONS = (
    ":) :-) :)) :-)) :))) :-))) (: (-: =) (= :] :-] [: [-: [= =] :o) (o: :} :-} 8) 8-) (-8 ;) ;-) (; (-; :( :-( :(( :-(( :((( "
    ":-((( ): )-: =( >:( :') :'-) :'( :'-( :/ :-/ =/ =| :| :-| ]= =[ :1 :P :-P :p :-p :O :-O :o :-o :0 :-0 :() >:o :* :-* :3 "
    ":-3 =3 :> :-> :X :-X :x :-x :D :-D ;D ;-D =D xD XD xDD XDD 8D 8-D ^_^ ^__^ ^___^ >.< >.> <.< ._. ;_; -_- -__- v.v V.V "
    "v_v V_V o_o o_O O_o O_O 0_o o_0 0_0 o.O O.o O.O o.o 0.0 o.0 0.o @_@ <3 <33 <333 </3 (^_^) (-_-) (._.) (>_<) (*_*) (¬_¬) "
    "ಠ_ಠ ಠ︵ಠ (ಠ_ಠ) ¯\\(ツ)/¯ (╯°□°）╯︵┻━┻ ><(((*>"
)
_WHOLE = (
    "\\t \\n — ' \\\") <space> '' C++ ä. ö. ü. 'S 's ‘S ‘s and/or w/o 're 'Cause 'cause 'cos 'Cos 'coz 'Coz 'cuz 'Cuz 'bout "
    "ma'am Ma'am o'clock O'clock lovin lovin' Lovin Lovin' havin havin' Havin Havin' doin doin' Doin Doin' goin goin' Goin "
    "Goin' nothin nothin' Nothin Nothin' nuthin nuthin' Nuthin Nuthin' ol ol' Ol Ol' somethin somethin' Somethin Somethin' "
    "em 'em ll 'll nuff 'nuff 'd a.m. p.m. Mt. Ak. Ala. Apr. Ariz. Ark. Aug. Calif. Colo. Conn. Dec. Del. Feb. Fla. Ga. Ia. "
    "Id. Ill. Ind. Jan. Jul. Jun. Kan. Kans. Ky. La. Mar. Mass. Mich. Minn. Miss. N.C. N.D. N.H. N.J. N.M. N.Y. Neb. Nebr. "
    "Nev. Nov. Oct. Okla. Ore. Pa. S.C. Sep. Sept. Tenn. Va. Wash. Wis. Adm. Bros. co. Co. Corp. D.C. Dr. e.g. E.g. E.G. Gen. "
    "Gov. i.e. I.e. I.E. Inc. Jr. Ltd. Md. Messrs. Mo. Mont. Mr. Mrs. Ms. Ph.D. Prof. Rep. Rev. Sen. St. vs. v.s."
)
#: words that look like contractions and are none
_NONE = frozenset(["ill", "its", "hell", "shell", "shed", "were", "well", "whore"])
_VERBS = "ca could do does did had may might must need ought sha should wo would"
_FUSED = (
    "y'|all y|all how|'d|'y How|'d|'y not|'ve not|ve Not|'ve Not|ve can|not Can|not gon|na Gon|na got|ta Got|ta let|'s Let|'s "
    "c'm|on C'm|on"
)


def _contractions() -> Iterator[tuple[str, ...]]:
    """The parts of every contraction: with an apostrophe and, as people type it, without."""

    def both(word: str, *ends: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for start in (word, word.title()):
            for end in ends:
                yield (start, *end)
                plain = (start, *(part.replace("'", "") for part in end))
                if plain[0].lower() + "".join(plain[1:]) not in _NONE:
                    yield plain

    will, would, have, are, is_ = ("'ll",), ("'d",), ("'ve",), ("'re",), ("'s",)
    common = (will, ("'ll", "'ve"), would, ("'d", "'ve"))
    yield from both("i", ("'m",), ("'m", "a"), *common, have)
    for word in ("you", "we", "they"):
        yield from both(word, *common, have, are)
    for word in ("he", "she", "it"):
        yield from both(word, *common, is_)
    for word in ("who", "what", "when", "where", "why", "how", "there", "these", "those"):
        plural = () if word in ("these", "those") else (is_,)
        yield from both(word, *common, are, have, *plural)
    for word in ("that", "this"):
        yield from both(word, *common, is_)
    for word in _VERBS.split():
        yield from both(word, ("n't",), ("n't", "'ve"))
    for word in ["could", "might", "must", "should", "would"]:
        yield from both(word, have)
    for word in ["ai", "are", "is", "was", "were", "have", "has", "dare"]:
        yield from both(word, ("n't",))


@cache
def specials() -> dict[str, tuple[str, ...]]:
    """Chunks, or what is left of them, that are tokenized as listed."""
    listed: dict[str, tuple[str, ...]] = {word: (word,) for word in (*_EMOTICONS.split(), *_WHOLE.split())}
    listed |= {f"{letter}.": (f"{letter}.",) for letter in "abcdefghijklmnopqrstuvwxyz"}
    listed |= {f"°{letter}.": ("°", letter, ".") for letter in "cfkCFK"}
    listed |= {f"{hour}{half}": (str(hour), half) for hour in range(1, 13) for half in ("am", "a.m.", "pm", "p.m.")}
    parts = [*_contractions(), *(tuple(word.split("|")) for word in _FUSED.split())]
    listed |= {"".join(part): part for part in parts}
    curled = {text.replace("'", "’"): tuple(part.replace("'", "’") for part in parts) for text, parts in listed.items()}
    return listed | curled


@cache
def _letters() -> tuple[str, str, str]:
    """Lower-case letters, upper-case letters, and all letters; scripts without case are in each."""
    latin = "".join(
        letter
        for letter in map(chr, range(0x10000))
        if (unicodedata.category(letter) in ("Ll", "Lu", "Lt") or letter in "ƻʔ")
        and "LATIN" in unicodedata.name(letter, "") and not "ﬀ" <= letter <= "ﬆ"
    )  # fmt: skip
    cased = [letter for letter in map(chr, range(0x370, 0x530)) if re.match(f"[{_CASED}]", letter)]
    everything = [*latin, *cased]
    uncased = "".join(chr(code) for start, stop in _UNCASED for code in range(start, stop + 1))
    lower = "".join(letter for letter in everything if unicodedata.category(letter) == "Ll" or letter == "ʔ")
    upper = "".join(letter for letter in everything if unicodedata.category(letter) == "Lu")
    return lower + uncased, upper + uncased, "".join(everything) + uncased


@cache
def _icons() -> frozenset[str]:
    """Symbols that stand alone: arrows, dingbats, emoji."""
    later = {code for start, stop in _LATER for code in range(start, stop + 1)}
    codes = (code for code in range(0x110000) if code not in later)
    return frozenset(letter for letter in map(chr, codes) if unicodedata.category(letter) == "So")


@cache
def _sets() -> tuple[frozenset[str], frozenset[str], frozenset[str], frozenset[str]]:
    """Characters that are prefixes; that are suffixes; after which a full stop is one; upper-case letters."""
    icons = _icons()
    shared = _PUNCT | _QUOTES | icons
    before_stop = frozenset("0123456789%²-+|(?:)") | frozenset(_letters()[0]) | _PUNCT | _QUOTES
    prefixes = frozenset(shared | set("§%=—–") | set(_CURRENCIES))
    return prefixes, frozenset(shared | set("—–")), before_stop, frozenset(_letters()[1])


def _class(letters: Iterable[str]) -> str:
    """A regular expression's class of these characters."""
    codes, spans = sorted({ord(letter) for letter in letters}), list[list[int]]()
    for code in codes:
        if spans and spans[-1][1] == code - 1:
            spans[-1][1] = code
        else:
            spans.append([code, code])
    return "".join(f"\\U{start:08x}-\\U{stop:08x}" for start, stop in spans)


@cache
def _infixes() -> re.Pattern[str]:
    lower, upper, every = (_class(letters) for letters in _letters())
    quotes = _class(_QUOTES)
    icons = _class(_icons())
    return re.compile(
        rf"\.\.+|…|[{icons}]|(?<=[0-9])[-+*^](?=[0-9-])|(?<=[{lower}{quotes}])\.(?=[{upper}{quotes}])|(?<=[{every}]),(?=[{every}])"
        rf"|(?<=[{every}0-9])(?:---?|——|[-–—~])(?=[{every}])|(?<=[{every}0-9])[:<>=/](?=[{every}])"
    )


@cache
def _url() -> re.Pattern[str]:
    """A whole chunk that is a URL, an address with ``@``, or a host of a public network."""
    octet, letter = r"(?:1?\d{1,2}|2[0-4]\d|25[0-5])", r"A-Za-z0-9\u00a1-\uffff"
    return re.compile(
        r"(?:[\w+.-]{2,}://)?(?:\S+(?::\S*)?@)?(?:"
        r"(?!(?:10|127)(?:\.\d{1,3}){3})(?!(?:169\.254|192\.168)(?:\.\d{1,3}){2})(?!172\.(?:1[6-9]|2\d|3[01])(?:\.\d{1,3}){2})"
        rf"(?:[1-9]\d?|1\d\d|2[01]\d|22[0-3])(?:\.{octet}){{2}}\.(?:[1-9]\d?|1\d\d|2[0-4]\d|25[0-4])"
        rf"|(?:(?:[{letter}][{letter}_-]{{0,62}})?[{letter}]\.)+[{_class(_letters()[0])}]{{2,63}}"
        r")(?::\d{2,5})?(?:[/?#]\S*)?"
    )


def _prefix(text: str, prefixes: frozenset[str]) -> int:
    """Length of the prefix of a text, 0 where it has none."""
    first = text[0]
    if first in prefixes:
        return 1
    if first == ".":
        run = len(text) - len(text.lstrip("."))
        return run if run > 1 else 0
    if first == "+":
        return 0 if text[1:2] in tuple("0123456789") else 1
    return next((len(sign) for sign in _DOLLARS if text.startswith(sign)), 0) if "$" in text[:3] else 0


def _suffix(text: str) -> int:
    """Length of the suffix of a text, 0 where it has none."""
    _, suffixes, before_stop, upper = _sets()
    last, before = text[-1], text[-2:-1]
    if last in suffixes:
        return 2 if text.endswith("……") else 1
    if last == ".":
        run = len(text) - len(text.rstrip("."))
        if run > 1:
            return run
        two = len(text) > 2 and before in upper and text[-3] in upper
        return int(before != "" and (before in before_stop or two or (before in "FfCcKk" and text[-3:-2] == "°")))
    if last in "sS" and before and before in "'’":
        return 2
    return _measure(text, last)


def _measure(text: str, last: str) -> int:
    """Length of a unit, currency or plus after a digit at the end of a text."""
    if last == "+" or last in _CURRENCIES:
        length = next((len(sign) for sign in _DOLLARS if text.endswith(sign) and _digit(text, len(sign))), 1)
        return length if _digit(text, length) else 0
    if not text[-2:-1] or not any(_digit(text, length) for length in range(1, min(6, len(text)))):
        return 0
    fitting = (len(unit) for unit in _units() if text.endswith(unit) and _digit(text, len(unit)))
    return max(fitting, default=0)


@cache
def _units() -> tuple[str, ...]:
    return tuple(_UNITS.split())


def _digit(text: str, length: int) -> bool:
    """Whether a digit stands before the last ``length`` characters."""
    before = text[-length - 1 : -length]
    return "0" <= before <= "9" if len(before) == 1 else False


def _split(text: str, known: dict[str, tuple[str, ...]]) -> list[str]:
    """The tokens of a chunk before spelled-out special cases are joined."""
    prefixes = _sets()[0]
    front: list[str] = []
    back: list[str] = []
    size = -1
    while text and len(text) != size and text not in known:
        size = len(text)
        start = _prefix(text, prefixes)
        if start and text[start:] in known:
            front.append(text[:start])
            text = text[start:]
            break
        stop = _suffix(text[start:]) if text[start:] else 0
        if stop and text[:-stop] in known:
            back.append(text[-stop:])
            text = text[:-stop]
            break
        if start:
            front.append(text[:start])
        if stop and (not start or start + stop <= len(text)):
            back.append(text[-stop:])
            text = text[start:-stop]
        else:
            text = text[start:]
    return [*front, *_inner(text, known), *reversed(back)] if text else [*front, *reversed(back)]


def _inner(text: str, known: dict[str, tuple[str, ...]]) -> Iterable[str]:
    """What is left between prefixes and suffixes: a special case, a URL, or split at infixes."""
    if text in known:
        return known[text]
    if text.isalnum() and text.isascii():
        return (text,)
    if "." in text and _url().fullmatch(text):
        return (text,)
    out, start = [], 0
    for found in _infixes().finditer(text):
        if found.start() == 0:
            continue
        if found.start() != start:
            out.append(text[start : found.start()])
        out.append(found.group())
        start = found.end()
    return [*out, text[start:]] if start < len(text) else out


@cache
def _spelled() -> dict[str, list[tuple[str, ...]]]:
    """First token -> the tokens into which special cases fall apart, longest first."""
    by: dict[str, list[tuple[str, ...]]] = {}
    for text in specials():
        parts = tuple(_split(text, {}))
        if _prefix(text, _sets()[0]) or _suffix(text) or _infixes().search(text):
            by.setdefault(parts[0], []).append(parts)
    return {first: sorted(parts, key=len, reverse=True) for first, parts in by.items()}


def _joined(tokens: list[str]) -> list[str]:
    """Special cases that tokens spell out put in their place: longer ones first, then those that begin earlier."""
    spelled, known = _spelled(), specials()
    found = [
        (-len(parts), at, at + len(parts))
        for at, token in enumerate(tokens)
        for parts in spelled.get(token, ())
        if tuple(tokens[at : at + len(parts)]) == parts
    ]
    if not found:
        return tokens
    taken: set[int] = set()
    chosen: dict[int, int] = {}
    for _, start, stop in sorted(found):
        if start not in taken and stop - 1 not in taken:
            chosen[start] = stop
        taken.update(range(start, stop))
    out, at = list[str](), 0
    while at < len(tokens):
        stop = chosen.get(at, at + 1)
        text = "".join(tokens[at:stop])
        out += known[text] if at in chosen and text in known else tokens[at:stop]
        at = stop
    return out


#: chunk -> its tokens; emptied when it is full
_KEPT: dict[str, tuple[str, ...]] = {}
_KEPT_MOST, _KEPT_LONGEST = 200_000, 60


def chunk_tokens(chunk: str) -> tuple[str, ...]:
    """The tokens of a text without white space."""
    tokens = _KEPT.get(chunk)
    if tokens is None:
        tokens = tuple(_joined(_split(chunk, specials())))
        if len(chunk) <= _KEPT_LONGEST:
            if len(_KEPT) >= _KEPT_MOST:
                _KEPT.clear()
            _KEPT[chunk] = tokens
    return tokens


def words(text: str) -> list[str]:
    """The tokens of a text, white space left out: datatrove's words."""
    out: list[str] = []
    for chunk in text.split():
        out += chunk_tokens(chunk)
    return out


_RUNS = re.compile(r"(\S+)|(\s+)")


def sentences(text: str) -> int:
    """How many sentences a text has: one begins at the start, and at a token that is neither punctuation nor an end of a
    sentence after one that is; white space beyond a single blank is such a token."""
    count, ended, first = 0, False, True
    for found in _RUNS.finditer(text):
        chunk, space = found.groups()
        if chunk is not None:
            tokens = chunk_tokens(chunk)
        elif found.start() == 0 or space[0] != " ":
            tokens = (space,)
        else:
            tokens = (space[1:],) if len(space) > 1 else ()
        for token in tokens:
            stop = token in STOPS
            if first or (ended and not stop and not _punctuation(token)):
                count, ended, first = count + 1, stop and first, False
            elif stop:
                ended = True
    return count


@cache
def _marks() -> frozenset[str]:
    return frozenset(letter for letter in map(chr, range(0x110000)) if unicodedata.category(letter)[0] == "P")


def _punctuation(token: str) -> bool:
    marks = _marks()
    return all(letter in marks for letter in token)
