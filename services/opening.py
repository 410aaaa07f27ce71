"""Opens clients from settings: the one place that knows both."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path

from safetensors import safe_open

from services.clients.database import Database
from services.clients.embedding import Embedder, TorchServeEmbedder
from services.clients.events import KafkaConnection
from services.clients.fetch import Fetcher
from services.clients.models import Limits, Models, TorchServeModels, Watch
from services.clients.objects import Objects
from services.clients.oip import OipModels
from services.clients.vault import Vault
from services.core.errors import Broken
from services.core.intake.stoplist import StopRules
from services.core.intake.words import Vocabulary
from services.core.policy import DEFAULT_POLICY, Policy
from services.settings import (
    KafkaSettings,
    ModelSettings,
    ObjectSettings,
    PolicySettings,
    PostgresSettings,
    StopListSettings,
    WebhookSettings,
)

VOCABULARY = Path(__file__).with_name("core") / "intake" / "words.safetensors"


def kafka_connection(settings: KafkaSettings) -> KafkaConnection:
    """How to reach the brokers."""
    return KafkaConnection(
        settings.bootstrap_servers,
        security_protocol=settings.security_protocol,
        sasl_mechanism=settings.sasl_mechanism,
        username=settings.username,
        password=settings.password.get_secret_value() if settings.password else None,
        ca_file=settings.ca_file,
        certificate_file=settings.certificate_file,
        key_file=settings.key_file,
    )


async def open_database(settings: PostgresSettings) -> Database:
    """The database with a pool of its own; whoever opens it closes it. Raises Unavailable."""
    return await Database.open(
        settings.dsn.get_secret_value(), pool_size=settings.pool_size, timeout_s=settings.timeout_s
    )


def open_objects(settings: ObjectSettings) -> Objects:
    """The object store. Raises ValueError for a URL of no known kind."""
    return Objects(
        settings.url,
        timeout_s=settings.timeout_s,
        endpoint=settings.endpoint,
        region=settings.region,
        access_key_id=settings.access_key_id,
        secret_access_key=settings.secret_access_key.get_secret_value() if settings.secret_access_key else None,
        allow_http=settings.allow_http,
    )


def open_models(settings: ModelSettings, watch: Watch) -> Models:
    """The model server's client, by its backend."""
    limits, token = _limits(settings), _token(settings)
    if settings.backend == "oip":
        return OipModels(settings.url, limits=limits, token=token, watch=watch)
    return TorchServeModels(settings.url, limits=limits, key_file=settings.key_file, token=token, watch=watch)


def open_challenger(settings: ModelSettings, version: str) -> Models:
    """The client of a version that does not serve, with no retries. Raises Broken for a backend that has none."""
    if settings.backend != "torchserve":
        raise Broken(
            f"PENTIMENTO_MODELS__BACKEND is {settings.backend}, and versions beside the one that serves are "
            "TorchServe's: leave PENTIMENTO_SHADOW__VERSION unset"
        )
    limits = replace(_limits(settings), retry_share=0.0)
    key_file, token = settings.key_file, _token(settings)
    return TorchServeModels(settings.url, limits=limits, key_file=key_file, token=token, at=version)


def open_embedder(settings: ModelSettings, watch: Watch) -> Embedder:
    """The embedder's client, on the same TorchServe as the models. Raises Broken for a backend that has none."""
    if settings.backend != "torchserve":
        raise Broken(
            f"PENTIMENTO_MODELS__BACKEND is {settings.backend}, and embeddings are served by TorchServe alone: "
            "leave PENTIMENTO_EMBEDDER__ENABLED unset"
        )
    limits, token = _limits(settings), _token(settings)
    return TorchServeEmbedder(settings.url, limits=limits, key_file=settings.key_file, token=token, watch=watch)


def _limits(settings: ModelSettings) -> Limits:
    return Limits(
        timeout_s=settings.timeout_s,
        in_flight=settings.in_flight,
        retry_share=settings.retry_share,
        breaker_failures=settings.breaker_failures,
        breaker_open_s=settings.breaker_open_s,
    )


def _token(settings: ModelSettings) -> str | None:
    return settings.token.get_secret_value() if settings.token else None


def read_policy(settings: PolicySettings) -> Policy:
    """The policy that is in force. Raises OSError or pydantic's ValidationError where the file is no policy."""
    return Policy.model_validate_json(settings.file.read_bytes()) if settings.file else DEFAULT_POLICY


def open_vocabulary() -> Vocabulary:
    """The vocabulary of visual words that ships with this version; its name is in the file."""
    with safe_open(VOCABULARY, "numpy") as file:
        tensors = {name: file.get_tensor(name) for name in ("mean", "axes", "first", "second")}
        return Vocabulary(file.metadata()["name"], **tensors)


def stop_rules(settings: StopListSettings) -> StopRules:
    """When a picture goes onto the stop list."""
    return StopRules(**settings.model_dump())


def open_vault(settings: WebhookSettings) -> Vault:
    """What seals webhook secrets. Raises ValueError for a key that is none."""
    return Vault([key.get_secret_value() for key in settings.keys])


def open_webhook_fetcher(settings: WebhookSettings) -> Fetcher:
    """What posts to webhooks, guarded as the fetching of uploads is. Raises OSError where the PEM bundle is missing."""
    fetcher = Fetcher(
        allowed_hosts=settings.allowed_hosts,
        max_bytes=0,  # bodies of answers are not read
        timeout_s=settings.timeout_s,
        allow_http=settings.allow_http,
        ports=settings.ports,
        allowed_networks=settings.allowed_networks,
        tls=ssl.create_default_context(cafile=settings.ca_file) if settings.ca_file else None,
    )
    fetcher.setting = "webhooks.allowed_hosts"
    return fetcher
