"""Options of the embedded stack, and which addresses in the environment are somebody else's."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.local.options import Addresses, StackOptions, external_addresses, without_password

DATA = Path("/data")
PORTS = {"kafka": 20001, "postgres": 20002, "models": 20003}
OURS = Addresses(
    kafka_bootstrap="127.0.0.1:20001",
    postgres_dsn="postgresql://pentimento:secret@127.0.0.1:20002/pentimento",
    models_url="http://127.0.0.1:20003",
    models_key_file=DATA / "torchserve" / "key_file.json",
    objects_url="file:///data/objects",
    web_url="http://127.0.0.1:20004",
)


def test_our_own_addresses_in_the_environment_are_not_external() -> None:
    assert external_addresses(OURS.environment(DATA), DATA, PORTS) == {}


def test_any_other_address_in_the_environment_is_external() -> None:
    environment = OURS.environment(DATA) | {
        "PENTIMENTO_KAFKA__BOOTSTRAP_SERVERS": "broker:9092",
        "PENTIMENTO_OBJECTS__URL": "s3://bucket/prefix",
    }
    assert external_addresses(environment, DATA, PORTS) == {
        "kafka_bootstrap": "broker:9092",
        "objects_url": "s3://bucket/prefix",
    }


def test_before_the_first_start_every_address_in_the_environment_is_external() -> None:
    assert external_addresses({"PENTIMENTO_MODELS__URL": "http://127.0.0.1:8080"}, DATA, {}) == {
        "models_url": "http://127.0.0.1:8080"
    }


def test_an_empty_variable_is_no_address() -> None:
    assert external_addresses({"PENTIMENTO_MODELS__URL": ""}, DATA, {}) == {}


def test_a_component_whose_address_is_given_needs_no_port() -> None:
    given_all = StackOptions(kafka_bootstrap="b:1", postgres_dsn="postgresql://h/d", models_url="http://m", web=False)
    assert given_all.port_names() == ["intake-1", "judge-1", "learn-1"]


def test_every_process_of_a_group_has_a_port_of_its_own() -> None:
    options = StackOptions(workers={"intake": 2, "judge": 0, "learn": 1})
    assert options.worker_names() == [("intake", "intake-1"), ("intake", "intake-2"), ("learn", "learn-1")]
    assert {"intake-1", "intake-2", "learn-1", "web"} < set(options.port_names())


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(ValidationError):
        StackOptions.model_validate({"kafka": "broker:9092"})


@given(password=st.text(alphabet="abcXYZ019-_%", min_size=12, max_size=30))
def test_a_database_address_is_shown_without_its_password(password: str) -> None:
    shown = without_password(f"postgresql://pentimento:{password}@127.0.0.1:5433/pentimento")
    assert shown == "127.0.0.1:5433/pentimento"


def test_a_connection_string_that_is_no_url_is_not_shown_at_all() -> None:
    assert without_password("host=db password=secret") == "(given)"
