"""Settings of the login: what fits is a login, and what does not ends the process at the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.core.access import Role
from services.settings import load_settings
from services.web.opening import sign_in_options

WHOLE = {
    "WEB__PUBLIC_URL": "https://images.example.com/",
    "LOGIN__ISSUER": "https://id.example.com",
    "LOGIN__ROLES": '{"trust": "moderator"}',
    "LOGIN__TENANTS": '{"trust": ["acme"]}',
}


def given(monkeypatch: pytest.MonkeyPatch, folder: Path, **settings: str) -> None:
    monkeypatch.setenv("PENTIMENTO_DATA_DIR", str(folder))
    for name, value in settings.items():
        monkeypatch.setenv(f"PENTIMENTO_{name}", value)


def test_a_login_is_made_from_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the client\n")
    given(monkeypatch, tmp_path, **WHOLE, LOGIN__CLIENT_SECRET_FILE=str(tmp_path / "secret"))
    options = sign_in_options(load_settings())
    assert options.provider is not None
    assert options.public_url == "https://images.example.com"
    assert options.claims.roles == {"trust": Role.MODERATOR}
    assert options.claims.tenants == {"trust": ("acme",)}


def test_without_an_issuer_there_is_no_provider(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given(monkeypatch, tmp_path)
    options = sign_in_options(load_settings())
    assert options.provider is None
    assert options.open_on_loopback


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"WEB__PUBLIC_URL": ""}, "PENTIMENTO_WEB__PUBLIC_URL"),
        ({"WEB__PUBLIC_URL": "http://images.example.com"}, "https"),
        ({"LOGIN__ISSUER": "http://id.example.com"}, "https"),
        ({"LOGIN__ROLES": "{}"}, "PENTIMENTO_LOGIN__ROLES"),
        ({"LOGIN__CLIENT_SECRET_FILE": "/nowhere/secret"}, "cannot be read"),
    ],
)
def test_a_login_that_is_set_by_half_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changed: dict[str, str], why: str
) -> None:
    given(monkeypatch, tmp_path, **{**WHOLE, **changed})
    with pytest.raises(ValueError, match=why):
        sign_in_options(load_settings())
