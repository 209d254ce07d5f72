"""Holds passes against ONNX Runtime on random models, in worker processes that may die.

    python -m tests.fuzz --graphs 10000 --jobs 2 --seed 0 [--pass NAME]

Prints what failed, shrunk, and how often each rule fired. Failures are written to tests/fuzz/regressions, where a fast
test replays them. The same seed and passes give the same models. Ends with status 1 if anything failed.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.campaign import REGRESSIONS, Campaign


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--graphs", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pass", dest="only", action="append", default=[], help="a pass or a pipeline; all by default")
    parser.add_argument("--keep", type=Path, default=REGRESSIONS, help="where failures are written")
    options = parser.parse_args()
    campaign = Campaign(options.graphs, options.seed, tuple(options.only), options.keep)
    with ThreadPoolExecutor(options.jobs) as pool:
        for job in [pool.submit(campaign.work) for _ in range(options.jobs)]:
            job.result()
    print("\n".join(campaign.summary()))
    return 1 if campaign.failures else 0


if __name__ == "__main__":
    sys.exit(main())
