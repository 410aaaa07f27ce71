"""A real Kubernetes API server on loopback, with an empty etcd and nothing that acts on what it admits.

In: the programs that `make test-helm` builds, and Debian's etcd. Out: `ApiServer`, to which objects are posted. What it
refuses, Kubernetes refuses: unknown fields, values out of range, pods that Pod Security forbids.
"""

from __future__ import annotations

import json
import secrets
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from services.local.ports import free_port
from tests.helm.chart import ROOT, Object

PROGRAM = ROOT / ".cache" / "tools" / "bin" / "kube-apiserver"
ETCD = shutil.which("etcd")
START_S = 120.0


@dataclass
class Admitted:
    """What became of a post: the answer's status, what it says, and warnings beside it."""

    status: int
    message: str
    warnings: list[str]


@dataclass
class ApiServer:
    """A client of it that may do everything. `config` lets other clients in, in kubectl's format."""

    client: httpx.Client
    config: Path
    _resources: dict[tuple[str, str], tuple[str, bool]] = field(default_factory=dict)

    def namespace(self, name: str) -> None:
        """A namespace that enforces Pod Security "restricted", and warns of what would not pass it."""
        levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
        self.post({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": levels}})

    def post(self, body: Object, namespace: str = "") -> Admitted:
        """Create an object; unknown fields are refused."""
        version, kind = body["apiVersion"], body["kind"]
        root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        plural, namespaced = self._resource(root, kind)
        where = f"{root}/namespaces/{namespace}/{plural}" if namespaced else f"{root}/{plural}"
        answer = self.client.post(where, json=body, params={"fieldValidation": "Strict"})
        message = "" if answer.is_success else str(answer.json().get("message"))
        return Admitted(answer.status_code, message, answer.headers.get_list("warning"))

    def get(self, version: str, kind: str, name: str, namespace: str) -> Object | None:
        """An object as it is kept; None where there is none."""
        root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        plural, namespaced = self._resource(root, kind)
        where = f"{root}/namespaces/{namespace}/{plural}" if namespaced else f"{root}/{plural}"
        answer = self.client.get(f"{where}/{name}")
        return None if answer.status_code == httpx.codes.NOT_FOUND else answer.raise_for_status().json()

    def wait_for(self, group_version: str, kind: str) -> None:
        """Until a kind that a CustomResourceDefinition defines can be created."""
        deadline = time.monotonic() + START_S
        while True:
            try:
                self._resource(f"/apis/{group_version}", kind)
            except LookupError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return

    def _resource(self, root: str, kind: str) -> tuple[str, bool]:
        """The name of a kind in addresses, and whether it lives in a namespace."""
        if (root, kind) not in self._resources:
            listed = self.client.get(root)
            for each in listed.json().get("resources", []) if listed.is_success else []:
                if "/" not in each["name"]:
                    self._resources[root, each["kind"]] = each["name"], each["namespaced"]
        return self._resources[root, kind]


@contextmanager
def running(folder: Path) -> Iterator[ApiServer]:
    """One that is ready, until the block ends."""
    client_port, peer_port, port, token = free_port(), free_port(), free_port(), secrets.token_hex(16)
    key, tokens = folder / "accounts.key", folder / "tokens.csv"
    key.write_bytes(
        rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    tokens.write_text(f"{token},tests,tests,system:masters\n")
    store, peers = f"http://127.0.0.1:{client_port}", f"http://127.0.0.1:{peer_port}"
    etcd = [
        str(ETCD), "--data-dir", str(folder / "etcd"), "--listen-client-urls", store, "--advertise-client-urls", store,
        "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", f"default={peers}",
    ]  # fmt: skip
    server = [
        str(PROGRAM), "--etcd-servers", store, "--secure-port", str(port), "--bind-address", "127.0.0.1",
        "--cert-dir", str(folder / "certificates"), "--token-auth-file", str(tokens),
        "--authorization-mode", "AlwaysAllow", "--service-cluster-ip-range", "10.96.0.0/24",
        "--service-account-issuer", "https://kubernetes.default.svc",
        "--service-account-signing-key-file", str(key), "--service-account-key-file", str(key),
        "--disable-admission-plugins", "ServiceAccount",  # nobody makes the accounts of namespaces here
    ]  # fmt: skip
    started: list[subprocess.Popen[Any]] = []
    with (folder / "log").open("wb") as log:
        try:
            for command in (etcd, server):
                started.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=folder))
            # it signs its certificate itself, at its start
            insecure = ssl.create_default_context()
            insecure.check_hostname, insecure.verify_mode = False, ssl.CERT_NONE
            headers = {"Authorization": f"Bearer {token}"}
            with httpx.Client(
                base_url=f"https://127.0.0.1:{port}", verify=insecure, headers=headers, timeout=60
            ) as client:
                _wait_until_ready(client, started, folder / "log")
                yield ApiServer(client, _config(folder / "config", f"https://127.0.0.1:{port}", token))
        finally:
            for process in reversed(started):
                process.terminate()
            for process in reversed(started):
                process.wait(30)


def _config(path: Path, server: str, token: str) -> Path:
    """What kubectl and helm read. JSON is YAML."""
    entries = {
        "clusters": [{"name": "it", "cluster": {"server": server, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "it", "user": {"token": token}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    }
    config = {"apiVersion": "v1", "kind": "Config", "current-context": "it", **entries}
    path.write_text(json.dumps(config))
    path.chmod(0o600)
    return path


def _wait_until_ready(client: httpx.Client, started: list[subprocess.Popen[Any]], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if any(process.poll() is not None for process in started):
            break
        try:
            if client.get("/readyz").is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"kube-apiserver is not ready:\n{log.read_text(errors='replace')[-3000:]}")
