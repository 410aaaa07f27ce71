"""Ports: found once, then kept."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from services.core.errors import Unavailable
from services.local.ports import FIRST, LAST, LOOPBACK, free_port, is_free, kept_ports


def taken(port: int) -> socket.socket:
    server = socket.socket()
    server.bind((LOOPBACK, port))
    server.listen()
    return server


def test_a_found_port_is_free_and_below_those_of_outgoing_connections() -> None:
    port = free_port()
    assert FIRST <= port <= LAST < 32_768
    assert is_free(port)


def test_ports_are_the_same_at_the_next_start(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    first = kept_ports(("kafka", "web"), file)
    assert len(set(first.values())) == 2
    assert kept_ports(("web", "kafka"), file) == first


def test_a_kept_port_that_somebody_took_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    first = kept_ports(("kafka", "web"), file)
    with taken(first["web"]):
        second = kept_ports(("kafka", "web"), file)
    assert second["kafka"] == first["kafka"]
    assert second["web"] != first["web"]


def test_a_name_that_is_not_asked_for_keeps_its_port_for_later(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    first = kept_ports(("kafka", "web"), file)
    kept_ports(("kafka",), file)
    assert kept_ports(("web",), file)["web"] == first["web"]


def test_a_wished_port_is_taken_and_kept(tmp_path: Path) -> None:
    wished = free_port()
    assert kept_ports(("web",), tmp_path / "ports.json", {"web": wished}) == {"web": wished}
    assert kept_ports(("web",), tmp_path / "ports.json") == {"web": wished}


def test_a_wished_port_that_is_in_use_is_refused_with_its_number(tmp_path: Path) -> None:
    port = free_port()
    with taken(port), pytest.raises(Unavailable, match=f"port {port}, asked for web, is in use"):
        kept_ports(("web",), tmp_path / "ports.json", {"web": port})
