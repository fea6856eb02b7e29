"""From runs to fits: laws as plug-ins, one a file; what fits them, joins them and writes them down.

Importing this costs numpy.
"""

from mixwright.laws._calibration import Z90 as Z90
from mixwright.laws._fit import GraphFit as GraphFit
from mixwright.laws._fit import load_fit as load_fit
from mixwright.laws._noise import SeedNoise as SeedNoise
from mixwright.laws._noise import seed_noise as seed_noise
