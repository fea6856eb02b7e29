"""How much of a text is markup and code."""

from __future__ import annotations

from dataclasses import dataclass

from mixwright.curate.signal import Floats, Signal, Texts, ratio


@dataclass(frozen=True)
class CodeMarkup(Signal):
    """Characters of a kind / characters, 0 for an empty text; a character may be of several kinds.

    ``tag_ratio``     in tags, comments, declarations and instructions of HTML and XML: ``<`` and a letter (``/``, ``!`` or
                      ``?`` may stand between) up to ``>``, or ``<!-- -->``
    ``code_ratio``    in lines that look like code: that end in ``{``, ``}``, ``;``, ``):`` or ``f(``, or begin with a
                      keyword of a common language, a comment or a prompt (``markup_kernels.OPENINGS``); a rule of our own
    ``fenced_ratio``  in fenced code blocks, the fences included (CommonMark 0.31, section 4.5, outside lists and quotes)
    ``latex_ratio``   in LaTeX commands: a backslash and two ASCII letters or more

    Cost: 3 ms/MB, 330 MB/s.
    """

    columns = ("tag_ratio", "code_ratio", "fenced_ratio", "latex_ratio")
    always = False

    def measure(self, texts: Texts) -> dict[str, Floats]:
        from mixwright.curate.markup_kernels import count_markup

        counts = count_markup(texts.data, texts.offsets)
        return {
            column: ratio(count, texts.counted("chars")) for column, count in zip(self.columns, counts, strict=True)
        }
