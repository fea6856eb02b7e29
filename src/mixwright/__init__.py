"""mixwright decides what a language model learns from: which text, in what proportions, in what order."""

__version__ = "0.1.0"
