"""Laws, choice, transfer and optimization side by side with peers: `make bench-laws`, or `python -m benchmarks.laws`.

One thread a process, set here before numpy is imported, so that CPU-seconds of different libraries compare.
"""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
    os.environ[_name] = "1"
