"""How many floating-point operations training takes, and how many a GPU could do: model FLOPs utilization (MFU).

Notation
    N     parameters of products: all but embedding; layers' matrices and the head
    L, T  layers, tokens of a window
    d     width (heads times channels)

After PaLM (Chowdhery et al. 2022, arXiv:2204.02311, appendix B): ``6 N + 12 L d T`` a token; nothing is counted for what is
computed twice (activation checkpointing), and attention is counted whole although half of it is masked.
"""

from mixwright.core.run import ModelSize

#: Dense bfloat16 operations a second, from the makers' data sheets (SXM boards), by a part of the device's name.
PEAK = {"H200": 989.4e12, "H100": 989.4e12, "A100": 312e12, "L40S": 362e12, "A10": 125e12}


def per_token(size: ModelSize, vocab: int, seq_len: int) -> float:
    """Operations for one training token, forward and back."""
    norms = (2 * size.layers + 1) * size.width
    products = size.params - norms + vocab * size.width
    return 6.0 * products + 12.0 * size.layers * size.width * seq_len


def peak(device: str) -> float | None:
    """Of the device of that name; None where it is not known."""
    return next((value for name, value in PEAK.items() if name in device), None)


def utilization(tokens_per_second: float, size: ModelSize, vocab: int, seq_len: int, device: str) -> float | None:
    """MFU, 0..1; None where the device's peak is not known."""
    most = peak(device)
    return None if most is None else tokens_per_second * per_token(size, vocab, seq_len) / most
