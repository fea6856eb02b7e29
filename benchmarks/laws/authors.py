"""Plain re-implementations, from papers and notes, of fits that are in no registry: the mixing-laws authors' and Olmix's.

They search as the originals do: torch's L-BFGS (rate .01, history 10, up to 20 inner iterations, strong Wolfe) in float32
from many starts, every start for a fixed number of outer steps, the best step of the best start kept.

Notation: N data, D domains, C curves; theta a list of leaf tensors.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
#: M4: starts, outer steps and Huber threshold of the five-domain fit
M4_STARTS, M4_STEPS, M4_HUBER = 6000, 50, 0.05
#: step law: starts, outer steps and Huber threshold of one run's five curves; checkpoints that only select the start
STEP_STARTS, STEP_STEPS, STEP_HUBER, STEP_HELD = 5500, 20, 0.05, 5
#: Olmix's log-linear law: starts, outer steps, Huber threshold
OLMIX_STARTS, OLMIX_STEPS, OLMIX_HUBER = 300, 100, 0.02


@dataclass(frozen=True)
class Found:
    """The best parameters seen and their objective (as the caller scored it)."""

    theta: list[Array]
    value: float


def search(
    predict: Callable[[Sequence[Any]], Any],
    starts: Sequence[Sequence[Array]],
    y: Array,
    steps: int,
    delta: float,
    score: Callable[[Any], float] | None = None,
) -> Found:
    """From every start ``steps`` outer steps on the sum of Huber losses; ``score`` of a prediction selects (None: that sum)."""
    import torch

    torch.set_num_threads(1)
    target = torch.tensor(y, dtype=torch.float32)
    best = Found([], float("inf"))
    for start in starts:
        theta = [torch.tensor(part, dtype=torch.float32, requires_grad=True) for part in start]
        solver = torch.optim.LBFGS(theta, lr=0.01, history_size=10, max_iter=20, line_search_fn="strong_wolfe")

        def closure(theta: list[Any] = theta, solver: Any = solver) -> Any:
            solver.zero_grad()
            loss = torch.nn.functional.huber_loss(predict(theta), target, delta=delta, reduction="sum")
            loss.backward()
            return loss

        for _ in range(steps):
            solver.step(closure)
            with torch.no_grad():
                said = predict(theta)
                value = (
                    score(said)
                    if score
                    else float(torch.nn.functional.huber_loss(said, target, delta=delta, reduction="sum"))
                )
            if value < best.value:
                best = Found([part.detach().numpy().astype(float).copy() for part in theta], value)
    return best


def m4(x: Array, y: Array, starts: int, seed: int = 0) -> tuple[Callable[[Array], Array], float]:
    """The paper's law c + k exp(t · r) by ``starts`` of the 6,000 starts; a predictor and the mean Huber objective."""
    import torch

    features = torch.tensor(x, dtype=torch.float32)
    draw = np.random.default_rng(seed)
    grid = [(c, k) for c in np.linspace(-2, 1.5, 10) for k in np.linspace(-10, 1, 20)]
    every = [
        [np.array(c), np.array(k), draw.uniform(0, 0.1, x.shape[1])]
        for c, k in grid
        for _ in range(M4_STARTS // len(grid))
    ]
    chosen = [every[n] for n in draw.permutation(len(every))[:starts]]
    found = search(lambda p: torch.exp(p[0]) + torch.exp(p[1] + features @ p[2]), chosen, y, M4_STEPS, M4_HUBER)
    c, k, t = found.theta
    return lambda r: np.exp(c) + np.exp(k + r @ t), huber(np.exp(c) + np.exp(k + x @ t) - y, M4_HUBER)


def pilot(r: Array, y: Array) -> tuple[float, float, float]:
    """The two-domain recipe: c on a grid of 1,000 values up to min L, where log(L - c) is straightest in r; then log k and t.

    The law is c + exp(log k + t r); log k and t are the least-squares solution on the losses given c.
    """
    from scipy.optimize import least_squares

    grid = np.linspace(0.0, y.min(), 1000, endpoint=False)
    straight = [abs(np.corrcoef(r, np.log(y - c))[0, 1]) for c in grid]
    c = float(grid[int(np.argmax(straight))])
    slope, level = np.polyfit(r, np.log(y - c), 1)
    found = least_squares(lambda p: c + np.exp(p[0] + p[1] * r) - y, [level, slope], xtol=1e-14, ftol=1e-14)
    return c, float(found.x[0]), float(found.x[1])


def step_law(tokens: Array, y: Array, starts: int, seed: int = 0) -> tuple[Callable[[Array], Array], float]:
    """One run's curves ``y (C, S)`` at ``tokens (S,)``: c + (D0 / D)^alpha with one alpha, by ``starts`` of 5,500 starts.

    A predictor of ``(C, S')`` and the lowest mean Huber objective of any start and step on the points fitted. The last five
    checkpoints are not fitted and select the predictor.
    """
    import torch

    fitted = slice(0, len(tokens) - STEP_HELD)
    clock = torch.tensor(np.log(tokens), dtype=torch.float32)
    late, seen = (torch.tensor(y[:, part], dtype=torch.float32) for part in (slice(-STEP_HELD, None), fitted))
    draw = np.random.default_rng(seed)
    lowest = y[:, fitted].min(axis=1)
    every = [
        (a, d) for a in np.linspace(0.65, 0.9, 11) for d in np.linspace(15, 23, 10) for _ in range(STEP_STARTS // 110)
    ]
    chosen = [every[n] for n in draw.permutation(len(every))[:starts]]
    begin = [
        [np.log(np.full(1, a)), np.full(len(y), d), np.log(lowest) + draw.uniform(1, 2, len(y))] for a, d in chosen
    ]

    def curve(p: Sequence[Any], at: Any) -> Any:
        return torch.exp(p[2])[:, None] + torch.exp(torch.exp(p[0]) * (p[1][:, None] - at[None]))

    both: dict[str, Any] = {}

    def predict(p: Sequence[Any]) -> Any:
        both["late"] = (p, late)
        return curve(p, clock[fitted])

    lowest_seen = [float("inf")]

    def score(said: Any) -> float:
        p, target = both["late"]
        here = float(torch.nn.functional.huber_loss(said, seen, delta=STEP_HUBER))
        lowest_seen[0] = min(lowest_seen[0], here)
        return float(torch.nn.functional.huber_loss(curve(p, clock[-STEP_HELD:]), target, delta=STEP_HUBER))

    found = search(predict, begin, y[:, fitted], STEP_STEPS, STEP_HUBER, score)
    alpha, d0, c = np.exp(found.theta[0]), found.theta[1], found.theta[2]

    def said(at: Array) -> Array:
        return np.exp(c)[:, None] + np.exp(alpha * (d0[:, None] - np.log(at)[None]))

    return said, lowest_seen[0]


def olmix(x: Array, y: Array, xt: Array, starts: int = OLMIX_STARTS, seed: int = 0) -> Array:
    """Olmix's log-linear law exp(log c) + exp(b + t · r), 300 random starts; predictions at ``xt``."""
    import torch

    features = torch.tensor(x, dtype=torch.float32)
    draw = np.random.default_rng(seed)
    levels = np.linspace(-2, 1.5, 10)
    begin = [
        [np.array(levels[n % 10]), np.array(draw.uniform(-1, 1)), draw.uniform(-0.1, 0.1, x.shape[1])]
        for n in range(starts)
    ]
    found = search(lambda p: torch.exp(p[0]) + torch.exp(p[1] + features @ p[2]), begin, y, OLMIX_STEPS, OLMIX_HUBER)
    c, b, t = found.theta
    return np.exp(c) + np.exp(b + xt @ t)


def huber(off: Array, delta: float) -> float:
    """Mean Huber loss of residuals."""
    inside = np.minimum(np.abs(off), delta)
    return float(np.mean(inside * (np.abs(off) - 0.5 * inside)))
