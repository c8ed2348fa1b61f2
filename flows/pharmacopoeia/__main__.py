"""Write the shipped corpus: `python -m domainlm.flows.pharmacopoeia OUT [--seed 0] [--scale 1.0]`."""

import argparse
import sys
from pathlib import Path

from domainlm.flows.pharmacopoeia.files import write_pharmacopoeia


def main() -> None:
    """Write it, and say how many documents it has."""
    parser = argparse.ArgumentParser(
        description="Write an invented pharmacopoeia: documents, benchmarks, and the truth."
    )
    parser.add_argument("out", type=Path, help="a directory that does not exist yet")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives another world")
    parser.add_argument("--scale", type=float, default=1.0, help="how many documents, against the shipped corpus")
    arguments = parser.parse_args()
    counts = write_pharmacopoeia(arguments.out, seed=arguments.seed, scale=arguments.scale)
    told = ", ".join(f"{count:,} {source}" for source, count in counts.items())
    sys.stdout.write(f"{arguments.out}: {sum(counts.values()):,} documents ({told})\n")


if __name__ == "__main__":
    main()
