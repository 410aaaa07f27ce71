"""The images and the compose file, as far as they can be seen without a container engine."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import locks
from services.core import topology
from services.settings_docs import variables

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy" / "docker"
FILES = sorted(DOCKER.glob("*.Dockerfile"))
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))
OURS = {name: each for name, each in COMPOSE["services"].items() if each["image"].startswith("pentimento/")}

LACKING = """
import importlib.metadata as metadata, re, runpy, sys
from importlib.abc import MetaPathFinder

allowed = {re.sub("[-_.]+", "-", line.split("==")[0].lower()) for line in open(sys.argv[1]) if "==" in line}
owners = metadata.packages_distributions()

class Lacking(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        top = name.partition(".")[0]
        names = {re.sub("[-_.]+", "-", owner.lower()) for owner in owners.get(top, [])}
        if names and not names & (allowed | {"pentimento"}):
            raise ModuleNotFoundError(f"the image has no {top}", name=top)

sys.meta_path.insert(0, Lacking())
module = sys.argv[2]
sys.argv[1:] = sys.argv[3:]
if sys.argv[1:]:
    runpy.run_module(module, run_name="__main__")
else:
    __import__(module)
"""
"""Runs or imports a module where packages that are not in a lock file are not there."""


def test_the_lock_files_of_the_images_are_fresh_parts_of_the_whole() -> None:
    assert locks.stale() == [], "run `python -m deploy.locks`"
    whole = locks.locked((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    for path in DOCKER.glob("*.lock"):
        for name, block in locks.locked(path.read_text(encoding="utf-8")).items():
            assert name == "" or block == whole[name], (path.name, name)


def test_no_worker_carries_torch_and_no_image_without_a_gpu_carries_cuda() -> None:
    names = {path.stem: set(locks.locked(path.read_text(encoding="utf-8"))) for path in DOCKER.glob("*.lock")}
    assert not {name for name in names["services"] if locks.OF_TORCH.match(name)}
    for image in ("models", "trainer"):
        assert "torch" in names[image]
        assert not {name for name in names[f"{image}-cpu"] if locks.OF_TORCH.match(name)}
        assert {"timm", "safetensors"} <= names[f"{image}-cpu"]


@pytest.mark.parametrize(
    ("image", "module", "words"),
    [
        ("services", "services.worker", ()),
        ("services", "services.web.__main__", ()),
        ("services", "tests.helm.pentimento", ("prepare", "--help")),
        ("models-cpu", "services.model_server", ()),
        ("models-cpu", "tests.helm.pentimento", ("watch", "--help")),
        ("models-cpu", "mlflow.store.model_registry.sqlalchemy_store", ()),  # promotes out of a registry
    ],
)
def test_a_program_needs_no_package_that_its_image_lacks(image: str, module: str, words: tuple[str, ...]) -> None:
    command = [sys.executable, "-c", LACKING, str(DOCKER / f"{image}.lock"), module, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_a_dockerfile_keeps_the_rules(path: Path) -> None:
    steps = instructions(path)
    names = [name for name, _ in steps]
    assert names.count("FROM") >= 3, "built in stages"
    bases = [words.split()[0] for name, words in steps if name == "FROM"]
    assert set(bases) <= {"${PYTHON_IMAGE}", "build", "scratch"}
    (default,) = [words for name, words in steps if name == "ARG" and words.startswith("PYTHON_IMAGE=")]
    assert re.search(r":3\.11-slim", default) and ":latest" not in default
    last = steps[max(index for index, name in enumerate(names) if name == "FROM") :]
    assert [words for name, words in last if name == "USER"] == ["10001:10001"]
    assert {"HEALTHCHECK", "CMD", "STOPSIGNAL", "LABEL", "VOLUME"} <= {name for name, _ in last}
    assert not any(name == "ADD" for name, _ in steps)
    assert not any(name == "COPY" and words in (". .", ". ./") for name, words in steps)
    assert not any(name in ("ENV", "ARG") and re.search(r"PASSWORD|SECRET", words) for name, words in steps)
    installs = [words for name, words in steps if name == "RUN" and re.search(r"pip (install|sync)", words)]
    assert all("--require-hashes" in words or "--no-deps" in words for words in installs)
    assert any(name == "FROM" and words.endswith("AS sbom") for name, words in steps)
    for name, words in steps:
        if name == "CMD":
            assert words.startswith("["), "without a shell, so that signals arrive"


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_an_image_says_where_the_systems_authorities_are_and_is_not_built_without_them(path: Path) -> None:
    bundle = "/etc/ssl/certs/ca-certificates.crt"
    steps = instructions(path)
    assert ("RUN", f"test -s {bundle}") in steps
    assert any(name == "ENV" and f"SSL_CERT_FILE={bundle}" in words.split() for name, words in steps)


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_what_a_dockerfile_copies_is_let_in(path: Path) -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for name, words in instructions(path):
        if name == "COPY" and not words.startswith("--from"):
            for source in words.split()[:-1]:
                assert source in let_in, source
                assert list(ROOT.glob(source)), source


def test_compose_runs_every_group_as_the_images_say() -> None:
    commands = {name: each["command"] for name, each in OURS.items()}
    for group in topology.GROUPS:
        assert commands[group] == ["python", "-m", "services.worker", group]
    for name, each in OURS.items():
        dockerfile = ROOT / each["build"]["dockerfile"]
        assert dockerfile in FILES, name
        assert each["read_only"] and each["cap_drop"] == ["ALL"], name
        assert any(mount.startswith("/tmp") for mount in each["tmpfs"]), name


def test_compose_gives_settings_that_exist_and_no_secret() -> None:
    known = {*variables(), "HEALTH_URL"}
    for name, each in OURS.items():
        assert set(each["environment"]) <= known, name
        for variable, value in each["environment"].items():
            if re.search(r"TOKEN|SECRET_|DSN", variable):
                assert ":?" in value, f"{name}: {variable} must be asked for"


def test_compose_names_nothing_that_is_not_there() -> None:
    services, volumes = COMPOSE["services"], COMPOSE["volumes"]
    for name, each in services.items():
        assert set(each.get("depends_on", {})) <= services.keys(), name
        for mount in each.get("volumes", []):
            source = mount.rpartition(":/")[0] if mount.count(":/") == 1 else mount.partition(":/")[0]
            source = re.sub(r"\$\{\w+:-(.*)\}", r"\1", source.removesuffix(":ro"))
            assert source in volumes or (ROOT / "deploy" / source).exists(), (name, mount)
        for port in each.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} is reachable from everywhere"
        assert ":latest" not in each["image"] and ":" in each["image"], name


def test_kafka_of_compose_keeps_its_log_on_its_volume() -> None:
    kafka = COMPOSE["services"]["kafka"]
    assert kafka["environment"]["KAFKA_LOG_DIRS"] in [mount.partition(":")[2] for mount in kafka["volumes"]]


def test_prometheus_of_compose_looks_at_services_that_are_there() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "compose" / "prometheus.yaml").read_text(encoding="utf-8"))
    targets = [
        target for job in config["scrape_configs"] for static in job["static_configs"] for target in static["targets"]
    ]
    assert {target.partition(":")[0] for target in targets} <= set(COMPOSE["services"])
    assert {*topology.GROUPS, "models", "api"} == {target.partition(":")[0] for target in targets}


def instructions(path: Path) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, continued lines joined."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    found = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    for name, words in found:
        if name == "RUN":
            shlex.split(words)  # quotes are closed
    return [(name, words) for name, words in found]
