"""Measures the shipped models: `python -m trainer.evaluate constrained --set DIR`, or `unconstrained`.

In: a model's name and the arguments of its evaluation. Out: what that evaluation writes: `evaluate_constrained` for the
pair model, `evaluate_web_iml` for the single-image one. Both take --set DIR, --photos DIR, --threads N and --out FILE.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from trainer import evaluate_constrained, evaluate_web_iml

EVALUATIONS: dict[str, Callable[[Sequence[str]], int]] = {
    "constrained": evaluate_constrained.main,
    "unconstrained": evaluate_web_iml.main,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m trainer.evaluate", description=__doc__)
    parser.add_argument("model", choices=sorted(EVALUATIONS), help="its own options follow: `MODEL --help` lists them")
    model = parser.parse_args(given[:1]).model
    return EVALUATIONS[model](given[1:])


if __name__ == "__main__":
    raise SystemExit(main())
