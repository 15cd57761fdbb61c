"""Issuers per configuration, as settings."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from certorbit.settings import Settings

FILE = """\
[[issuers]]
name = "letsencrypt"
directory = "https://acme-v02.api.letsencrypt.org/directory"

[[issuers]]
name = "zerossl"
directory = "https://acme.zerossl.com/v2/DV90"

"""


def read(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Settings:
    (folder / "certorbit.toml").write_text(text)
    monkeypatch.chdir(folder)
    return Settings()


def test_a_configuration_names_its_issuers_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = (
        '[configurations.prod]\nissuers = ["zerossl", "letsencrypt"]\n[configurations.Shop-2]\nissuers = ["zerossl"]\n'
    )
    settings = read(tmp_path, monkeypatch, FILE + own)
    assert settings.issuers_by_configuration() == {"prod": ("zerossl", "letsencrypt"), "Shop-2": ("zerossl",)}
    assert [issuer.name for issuer in settings.all_issuers()] == ["letsencrypt", "zerossl"]


def test_the_environment_has_them_as_one_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CERTORBIT_CONFIGURATIONS", '{"prod": {"issuers": ["zerossl", "letsencrypt"]}}')
    assert read(tmp_path, monkeypatch, FILE).issuers_by_configuration() == {"prod": ("zerossl", "letsencrypt")}


def test_the_shortcut_and_the_built_in_ca_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = read(tmp_path, monkeypatch, '[configurations.prod]\nissuers = ["internal"]\n')
    assert alone.issuers_by_configuration() == {"prod": ("internal",)}
    monkeypatch.setenv("CERTORBIT_ACME_DIRECTORY", "https://ca.example/directory")
    named = read(tmp_path, monkeypatch, FILE + '[configurations.prod]\nissuers = ["zerossl", "acme"]\n')
    assert named.issuers_by_configuration() == {"prod": ("zerossl", "acme")}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(
            'issuers = ["zerosll"]',
            "configurations.prod: there is no issuer named 'zerosll'; there are letsencrypt, zerossl",
            id="unknown",
        ),
        pytest.param(
            'issuers = ["zerossl", "letsencrypt", "zerossl"]',
            "configurations.prod: the issuer 'zerossl' is given twice",
            id="twice",
        ),
        pytest.param("issuers = []", "configurations.prod.issuers", id="none"),
        pytest.param('issuer = "zerossl"', "configurations.prod.issuer", id="unknown-setting"),
    ],
)
def test_wrong_ones_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        read(tmp_path, monkeypatch, f"{FILE}[configurations.prod]\n{text}\n")
    assert says in str(caught.value)


def test_a_ca_has_not_the_built_in_cas_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = '[[issuers]]\nname = "internal"\ndirectory = "https://ca.example/directory"\n'
    with pytest.raises(ValueError, match="'internal': this is the built-in CA's name"):
        read(tmp_path, monkeypatch, table)
    assert read(tmp_path, monkeypatch, '[[issuers]]\nname = "internal"\ntype = "internal"\n').issuers
