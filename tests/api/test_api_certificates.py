"""Create, repeat, change, delete, download."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs12

from api.material import Pair, make_crl, make_leaf
from api.server import API, CERTS, FakeIssuer, run_api
from api.shapes import assert_error, assert_validation

CREATED = {"message": "Successfully created entry"}


def get(api: API, name: str) -> dict[str, object]:
    answer = api.call("GET", f"{CERTS}/{name}")
    assert answer.status == 200
    document = answer.json
    assert isinstance(document, dict)
    return document


def test_an_upload_reads_back_as_it_was_given(api: API, leaf: Pair) -> None:
    name = api.new_name()
    answer = api.upload(name, leaf, le_auto_renew=False, side="serverToBackendMTLS", id=name)
    assert (answer.status, answer.json) == (201, CREATED)
    got = get(api, name)
    assert got["cert_body"] == leaf.cert_pem + api.ca.cert_pem
    assert got["private_key"] == leaf.key_pem
    assert (got["le_auto_renew"], got["le_auto_replace"], got["side"]) == (False, True, "serverToBackendMTLS")
    assert got["san"] == ["www.example.test", "api.example.test"]
    assert got["subject"] == "CN=www.example.test"
    assert got["issuer"] == "C=DE, O=Orbit, CN=Orbit Test CA"
    assert got["expires"] == "2027-03-31"
    assert got["cdp"] == ["http://crl.example.test/a.crl"]
    assert got["le_hash"] == ""
    assert got["crl"] == []


def test_unknown_and_derived_fields_are_ignored(api: API, leaf: Pair) -> None:
    name = api.new_name()
    fields: dict[str, Any] = {
        "name": 5,
        "exp_date": None,
        "upload_time": {},
        "expires": "x",
        "san": ["other"],
        "le_hash": "x",
        "revoked": True,
        "cdp": ["x"],
        "subject": "x",
        "uploaded": "x",
        "issuer": "x",
    }
    assert api.upload(name, leaf, **fields).status == 201
    got = get(api, name)
    assert got["san"] == ["www.example.test", "api.example.test"]
    assert (got["revoked"], got["le_hash"], got["subject"]) == (False, "", "CN=www.example.test")


def test_a_ca_bundle_keeps_its_crls_and_a_leaf_has_none(api: API, leaf: Pair) -> None:
    bundle, server = api.new_name(), api.new_name()
    crl = make_crl(api.ca)
    document = {"cert_body": api.ca.cert_pem, "side": "clientCA", "crl": ["\n" + crl.replace("\n", "\r\n")]}
    assert api.call("POST", f"{CERTS}/{bundle}", document=document).status == 201
    assert api.upload(server, leaf, crl=["not looked at"]).status == 201
    assert get(api, bundle)["crl"] == [crl]
    assert get(api, server)["crl"] == []


def test_a_generated_certificate_has_the_hash_of_its_names(api: API) -> None:
    name = api.new_name()
    answer = api.generate(name, "WWW.Example.test", "b.example.test", "www.example.test.", "")
    assert (answer.status, answer.json) == (201, CREATED)
    got = get(api, name)
    assert got["san"] == ["www.example.test", "b.example.test"]
    assert got["le_hash"] == sha256(b"b.example.test,www.example.test").hexdigest()


def test_an_empty_domains_value_beside_an_upload_is_an_upload(api: API, leaf: Pair) -> None:
    document = {"cert_body": leaf.cert_pem, "private_key": leaf.key_pem}
    assert api.call("POST", f"{CERTS}/{api.new_name()}?domains=", document=document).status == 201


@pytest.mark.parametrize("body", [None, b"", b" \r\n", b"{}"])
def test_no_body_means_the_contracts_default(api: API, body: bytes | None) -> None:
    name = api.new_name()
    assert api.call("POST", f"{CERTS}/{name}?domains=d.example.test", body=body).status == 201
    got = get(api, name)
    assert (got["le_auto_renew"], got["le_auto_replace"], got["side"], got["links"]) == (True, True, "server", [])


def test_both_upload_and_domains_are_refused(api: API, leaf: Pair) -> None:
    document = {"cert_body": leaf.cert_pem, "private_key": leaf.key_pem}
    assert_error(api.call("POST", f"{CERTS}/a?domains=a.example.test", document=document), 400, says="not both")


def test_an_id_in_the_body_must_be_the_paths(api: API) -> None:
    assert_error(api.generate("a", "a.example.test", id="b"), 400, says="id")


def test_a_repeated_upload_answers_201_and_changes_nothing(api: API, leaf: Pair) -> None:
    name = api.new_name()
    assert api.upload(name, leaf).status == 201
    before = get(api, name)
    version = api.call("GET", "/api/v4.0/conf/configs/prod").json["version"]
    again = api.upload(name, leaf)
    assert (again.status, again.json) == (201, CREATED)
    assert get(api, name) == before
    assert api.call("GET", "/api/v4.0/conf/configs/prod").json["version"] == version
    assert_error(api.upload(name, make_leaf(api.ca, "www.example.test")), 409, says=name)
    assert_error(api.generate(name, "www.example.test"), 409, says=name)


def test_a_repeated_generation_starts_no_second_one(api: API) -> None:
    name = api.new_name()
    assert api.generate(name, "a.example.test", "b.example.test").status == 201
    before, jobs = get(api, name), len(api.workflow.jobs)
    again = api.generate(name, "B.example.test", "a.example.test")
    assert (again.status, again.json) == (201, CREATED)
    assert get(api, name) == before
    assert len(api.workflow.jobs) == jobs
    assert_error(api.generate(name, "c.example.test"), 409, says=name)


def test_ten_writes_at_once_lose_none(api: API) -> None:
    names = [api.new_name() for _ in range(10)]
    with ThreadPoolExecutor(10) as pool:
        statuses = [
            answer.status for answer in pool.map(lambda name: api.generate(name, f"{name}.example.test"), names)
        ]
    assert statuses == [201] * 10
    assert set(names) <= {item["id"] for item in api.call("GET", CERTS).json["items"]}


def test_ten_equal_posts_at_once_start_one_issuance(api: API) -> None:
    name, jobs = api.new_name(), len(api.workflow.jobs)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: api.generate(name, "once.example.test"), range(10)))
    assert [answer.status for answer in answers] == [201] * 10
    assert len({job.workflow_id for job in api.workflow.jobs[jobs:]}) == 1


def test_a_failed_issuance_is_400_in_the_cas_words_and_leaves_no_entry(api: API) -> None:
    name = api.new_name()
    api.workflow.outcome = "refuse"
    assert_error(api.generate(name, "nowhere.example.test"), 400, says="NXDOMAIN looking up A for nowhere.example.test")
    assert api.call("GET", f"{CERTS}/{name}").status == 404


def test_an_issuance_that_takes_longer_is_promised_and_listed_without_certificate(api: API) -> None:
    name = api.new_name()
    api.workflow.outcome = "go on"
    assert api.generate(name, "slow.example.test").status == 201
    operation_id, seconds = api.workflow.waits[-1]
    assert seconds == 20.0
    got = get(api, name)
    assert (got["cert_body"], got["expires"], got["private_key"]) == ("", None, "")
    operation = api.call("GET", f"/api/certorbit/v1/operations/{operation_id}").json
    assert operation["promised"] is True
    for file in ("pem", "pfx"):
        assert_error(api.call("GET", f"{CERTS}/{name}/{file}"), 400, says="still being issued")
    api.workflow.outcome = "issue"
    assert api.generate(name, "slow.example.test").status == 201, "the repeat waits for the same issuance"
    assert str(get(api, name)["cert_body"]).startswith("-----BEGIN CERTIFICATE-----")


def test_an_end_that_comes_just_after_the_wait_counts(api: API) -> None:
    name = api.new_name()
    api.workflow.outcome = "end late"
    assert api.generate(name, "late.example.test").status == 201
    operation = api.call("GET", f"/api/certorbit/v1/operations/{api.workflow.waits[-1][0]}").json
    assert (operation["state"], operation["promised"]) == ("succeeded", False)


def test_a_wildcard_needs_an_issuer_that_can(tmp_path_factory: pytest.TempPathFactory, api: API) -> None:
    refused = api.generate("wild", "*.example.test", "www.example.test")
    assert_error(refused, 400, says="*.example.test needs a DNS-01 solver")
    assert b"www.example.test" not in refused.body
    able = FakeIssuer(name="dns", directory="internal", can_issue_wildcards=True)
    with run_api(tmp_path_factory.mktemp("api"), issuers=(able,)) as other:
        assert other.generate("wild", "*.example.test").status == 201
        assert get(other, "wild")["san"] == ["*.example.test"]


def test_a_wildcard_needs_the_configurations_own_first_issuer(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = "https://ca.example.test/directory"
    issuers = (
        FakeIssuer(name="plain", directory=directory, can_issue_wildcards=False),
        FakeIssuer(name="acme", directory=directory, can_issue_wildcards=True),
    )
    folder = tmp_path_factory.mktemp("api")
    own = {"prod": {"issuers": ["acme"]}}
    with run_api(folder, issuers=issuers, acme_directory=directory, configurations=own) as api:
        assert api.generate("wild", "*.example.test").status == 201
        chosen = api.call(
            "PATCH", "/api/certorbit/v1/configs/prod/certificates/wild/renewal", document={"issuer": "plain"}
        )
        assert_error(chosen, 400, says="there is none named 'plain'; there are acme")


def test_more_than_a_hundred_names_are_refused(api: API) -> None:
    assert_error(api.generate("many", *(f"n{i}.example.test" for i in range(101))), 400, says="100")


@pytest.mark.parametrize("body", [None, b"{garbage", b"\xff\x00", b'{"le_auto_renew": 7}'])
def test_put_ignores_any_body(api: API, body: bytes | None) -> None:
    name = api.new_name()
    api.generate(name, "p.example.test")
    query = "le_auto_renew=False&le_auto_replace=TRUE"
    answer = api.call("PUT", f"{CERTS}/{name}?{query}", body=body, headers={"Content-Type": "application/json"})
    assert (answer.status, answer.body) == (200, b"")
    got = get(api, name)
    assert (got["le_auto_renew"], got["le_auto_replace"]) == (False, True)
    assert api.call("PUT", f"{CERTS}/{name}", body=body).status == 200
    assert get(api, name)["le_auto_renew"] is True, "both default to true"


def test_put_with_a_certificate_to_replace(api: API) -> None:
    old, new = api.new_name(), api.new_name()
    for name in (old, new):
        api.generate(name, "p.example.test")
    for replaced in (old, new, ""):
        assert api.call("PUT", f"{CERTS}/{new}?replace_cert_id={replaced}").status == 200
    assert_error(api.call("PUT", f"{CERTS}/{new}?replace_cert_id=unknown"), 400, says="replace_cert_id")
    assert api.call("GET", f"{CERTS}/{old}").status == 200


def test_delete_takes_the_entry_away(api: API) -> None:
    name = api.new_name()
    api.generate(name, "d.example.test")
    answer = api.call("DELETE", f"{CERTS}/{name}")
    assert (answer.status, answer.body) == (200, b"")
    assert_error(api.call("GET", f"{CERTS}/{name}"), 404)
    assert_error(api.call("DELETE", f"{CERTS}/{name}"), 404)


def test_the_pem_file_has_key_leaf_and_chain(api: API, leaf: Pair) -> None:
    name = api.new_name()
    api.upload(name, leaf)
    answer = api.call("GET", f"{CERTS}/{name}/pem")
    assert answer.body.decode() == leaf.key_pem + leaf.cert_pem + api.ca.cert_pem
    assert answer.headers["content-type"] == "application/x-pem-file"
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}.pem"'
    assert answer.headers["cache-control"] == "no-store"
    load_pem_private_key(answer.body, None)


@pytest.mark.parametrize(
    ("header", "password"),
    [
        (None, None),
        (b"", None),
        (b"correct horse", b"correct horse"),
        ("pässwörd".encode(), "pässwörd".encode()),
        ("pässwörd".encode("latin-1"), "pässwörd".encode()),
    ],
)
def test_the_pfx_file_opens_with_the_password(
    api: API, leaf: Pair, header: bytes | None, password: bytes | None
) -> None:
    name = api.new_name()
    api.upload(name, leaf)
    headers = {} if header is None else {"X-PFX-Password": header}
    answer = api.call("GET", f"{CERTS}/{name}/pfx", headers=headers)  # type: ignore[arg-type]
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/x-pkcs12"
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}.pfx"'
    key, certificate, issuers = pkcs12.load_key_and_certificates(answer.body, password)
    assert key is not None
    assert certificate == leaf.certificate
    assert issuers == [api.ca.certificate]


def test_an_endless_pfx_password_is_refused(api: API) -> None:
    answer = api.call("GET", f"{CERTS}/placeholder/pfx", headers={"X-PFX-Password": "x" * 257})
    assert_error(answer, 400, says="X-PFX-Password")


def test_a_ca_bundle_gives_its_certificates_alone(api: API) -> None:
    name = api.new_name()
    api.call("POST", f"{CERTS}/{name}", document={"cert_body": api.ca.cert_pem, "side": "client"})
    assert api.call("GET", f"{CERTS}/{name}/pem", key="reader").body.decode() == api.ca.cert_pem
    store = pkcs12.load_pkcs12(api.call("GET", f"{CERTS}/{name}/pfx", key="reader").body, None)
    assert store.key is None
    assert [held.certificate for held in store.additional_certs] == [api.ca.certificate]


def test_openssl_reads_the_pem_file(api: API, leaf: Pair, tmp_path_factory: pytest.TempPathFactory) -> None:
    name = api.new_name()
    api.upload(name, leaf)
    file = tmp_path_factory.mktemp("pem") / "a.pem"
    file.write_bytes(api.call("GET", f"{CERTS}/{name}/pem").body)
    shown = subprocess.run(
        ["openssl", "x509", "-in", str(file), "-noout", "-serial"],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    serial = x509.load_pem_x509_certificate(leaf.cert_pem.encode()).serial_number
    assert int(shown.stdout.strip().removeprefix("serial="), 16) == serial


def test_an_entry_id_is_checked_before_anything_is_made(api: API, leaf: Pair) -> None:
    assert_validation(api.upload("-no", leaf), "path", "entry_id")
