"""Makes the files of `crds/`: `python -m tests.helm.trimmed CRD.yaml ...`.

In: a project's own CustomResourceDefinitions. Out: the same in `crds/`, without the words for people, which are most of
them, and without status and printed columns.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

CRDS = Path(__file__).parent / "crds"


def trimmed(node: Any) -> Any:
    """A schema without its descriptions; a property that is called so stays."""
    if isinstance(node, dict):
        return {k: trimmed(v) for k, v in node.items() if not (k == "description" and isinstance(v, str))}
    return [trimmed(each) for each in node] if isinstance(node, list) else node


def main(paths: list[str]) -> None:
    """Writes one file for each."""
    for path in paths:
        for crd in yaml.safe_load_all(Path(path).read_text(encoding="utf-8")):
            kept = trimmed(crd)
            for version in kept["spec"]["versions"]:
                version.pop("additionalPrinterColumns", None)
                version["schema"]["openAPIV3Schema"]["properties"].pop("status", None)
            for noise in ("annotations", "creationTimestamp"):
                kept["metadata"].pop(noise, None)
            if "k8s.io" in kept["spec"]["group"]:  # else the server asks for the project's approval
                kept["metadata"]["annotations"] = {"api-approved.kubernetes.io": "unapproved, trimmed for tests"}
            kept.pop("status", None)
            name = f"{kept['spec']['group']}_{kept['spec']['names']['plural']}.yaml"
            (CRDS / name).write_text(yaml.safe_dump(kept, sort_keys=False, width=110), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
