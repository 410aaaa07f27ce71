"""The chart as a program makes it: `helm template`, and what stands in its objects.

Helm is looked for in `.cache/tools/bin`, where `make test-helm` builds it, and on the path; without it tests that
render are skipped.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "pentimento"
SHAPES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))
KUBERNETES = "1.34.0"
NAMESPACE = "pentimento"
RELEASE = "test"
HELM = shutil.which("helm", path=str(ROOT / ".cache" / "tools" / "bin")) or shutil.which("helm")

needs_helm = pytest.mark.skipif(HELM is None, reason="helm is not built: `make test-helm` does it, with Go")

Object = dict[str, Any]


@dataclass  # not frozen: Python writes the traceback into it
class Refused(Exception):
    """Helm would not render; `why` is what it says."""

    why: str


def values_of(shape: str) -> Path:
    """The file of a tested shape."""
    return CHART / "ci" / f"{shape}-values.yaml"


@cache
def rendered(shape: str, *settings: str) -> tuple[Object, ...]:
    """The objects of a shape, with settings as `--set` has them. Raises Refused."""
    return tuple(each for each in yaml.load_all(rendered_text(shape, *settings), Loader=_LOADER) if each)


def rendered_text(shape: str, *settings: str) -> str:
    """The same as YAML."""
    sets = [word for setting in settings for word in ("--set", setting)]
    return ran("template", RELEASE, str(CHART), "--namespace", NAMESPACE, "-f", str(values_of(shape)), *sets)


def ran(verb: str, *words: str) -> str:
    """What a command of helm writes that asks no cluster. Raises Refused."""
    return commanded(verb, "--kube-version", KUBERNETES, *words)


def commanded(*words: str) -> str:
    """What any command of helm writes. Raises Refused."""
    done = subprocess.run([str(HELM), *words], capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise Refused(f"{done.stdout}{done.stderr}")
    return done.stdout


def found(objects: tuple[Object, ...], kind: str, name: str = "") -> Object:
    """The one object of a kind, by the end of its name."""
    (one,) = [each for each in objects if each["kind"] == kind and each["metadata"]["name"].endswith(name)]
    return one


def pods(objects: tuple[Object, ...]) -> Iterator[tuple[str, Object]]:
    """Name and pod (metadata, spec) of everything that runs one."""
    for each in objects:
        spec = each.get("spec", {})
        match each["kind"]:
            case "Pod":
                yield each["metadata"]["name"], each
            case "Deployment" | "Job":
                yield each["metadata"]["name"], spec["template"]
            case "CronJob":
                yield each["metadata"]["name"], spec["jobTemplate"]["spec"]["template"]


def containers(pod: Object) -> list[Object]:
    """All of a pod's, those that run first included."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
