"""From a table of runs to the best mixture, without torch: fit, look at the errors, optimize under a floor.

The table here is made up, so that the true optimum is known: two domains help two targets, the third helps neither.
"""

import numpy as np

from mixwright import Mixture, Objective, Runs
from mixwright.core.rng import rng
from mixwright.laws.validation import fit_chosen, validate
from mixwright.optimize.mixture import optimize

draw = rng(7, "example")
domains, metrics = ("books", "code", "web"), ("target:essays", "target:scripts")
weights = draw.dirichlet(np.ones(3), 24)
slopes = np.array([[-3.0, 0.2, 0.0], [0.1, -4.0, 0.0]])
losses = 2.5 + 2.0 * np.exp(weights @ slopes.T) + 0.01 * draw.standard_normal((24, 2))
runs = Runs(domains, metrics, tuple(f"run-{n}" for n in range(24)), weights, losses)

validation = validate(runs, rng=rng(7, "validate"))
for form in ("nested", "linear", "mean"):
    print(f"{form:8} held-out error {validation.scores[form]['objective']['mae']:.4f} nats/token")

fit = fit_chosen(runs, validation.chosen, rng=rng(7, "fit"))
best = optimize(fit, Objective(floors={"web": 0.10}), natural=Mixture.of({"books": 0.1, "code": 0.1, "web": 0.8}))
print(best.mixture)
print(f"gain {-best.gain.value:.3f} nats/token, 90 % interval {-best.gain.high:.3f} to {-best.gain.low:.3f}")
for sentence in (*best.active, *best.notes):
    print(sentence)

assert best.mixture["web"] < 0.11
assert 0.3 < best.mixture["code"] < 0.6
