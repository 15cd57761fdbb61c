"""Client certificates through the API: what a bundle may be, what server groups may say of it, and what follows."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from api.balancing import attach, find_entry, read, write
from api.material import Pair, make_ca, make_leaf
from api.server import API, FakeIssuer, run_api
from api.shapes import assert_error
from certorbit.model.ca_limits import LETS_ENCRYPT
from certorbit.model.client_policy import PolicyMark
from certorbit.model.entry import EntryID, VersionID
from certorbit.model.operation import Lane, OperationState
from certorbit.model.site import ClientCertificateMode

CERTS = "/api/v4.3/conf/prod/certificates"
GROUPS = "/api/v4.3/conf/prod/server-groups"


def upload(api: API) -> str:
    name = api.new_name()
    assert api.upload(name, make_leaf(api.ca, f"{name}.example.test")).status == 201
    return name


def upload_bundle(api: API, *pairs: Pair, **fields: Any) -> str:
    name = api.new_name()
    answer = post_bundle(api, name, *pairs, **fields)
    assert answer.status == 201, answer.json
    return name


def post_bundle(api: API, name: str, *pairs: Pair, **fields: Any) -> Any:
    body = "".join(pair.cert_pem for pair in pairs or (api.ca,))
    return api.call("POST", f"{CERTS}/{name}", document={"cert_body": body, "side": "clientCA", **fields})


def crl_of(pair: Pair) -> str:
    now = datetime.now(UTC)
    builder = x509.CertificateRevocationListBuilder(issuer_name=pair.certificate.subject)
    signed = builder.last_update(now).next_update(now + timedelta(days=7)).sign(pair.key, SHA256())
    return signed.public_bytes(Encoding.PEM).decode()


def add_group(api: API, **fields: str) -> str:
    name = api.new_name()
    assert api.call("POST", f"{GROUPS}/{name}", document={"name": name, **fields}).status == 201
    return name


def change(api: API, group: str, **fields: str) -> Any:
    return api.call("PUT", f"{GROUPS}/{group}", document=fields)


def deploying(api: API, name: str) -> bool:
    """Return whether a deployment of the certificate is under way."""
    found = read(api, lambda tx: tx.operations.list(config="prod", entry=EntryID(name), lane=Lane.DEPLOYMENT))  # type: ignore[arg-type]
    return any(not operation.state.is_final for operation in found)


def settle(api: API, name: str, mark: PolicyMark | None) -> None:
    """Do what the deployment workflow does: note what the listener was told, and end the operation."""
    entry = find_entry(api, name)

    def work(tx: Any) -> None:
        for row in tx.attachments.list_of_entry(entry.uid):
            tx.attachments.update(replace(row, client_policy=mark, version=VersionID(entry.current.id)))
        operation = tx.operations.lock_unfinished(entry.uid, Lane.DEPLOYMENT)
        if operation is not None:
            tx.operations.update(replace(operation, state=OperationState.SUCCEEDED, finished_at=operation.updated_at))

    write(api, work)


def test_a_mode_needs_a_bundle(api: API) -> None:
    name, bundle = upload(api), upload_bundle(api)
    for mode in ("on", "optional"):
        document = {"name": "shop", "ssl_certificate": name, "client_certificate_mode": mode}
        answer = api.call("POST", f"{GROUPS}/{api.new_name()}", document=document)
        assert_error(answer, 400, says=f"{mode} needs a client_certificate")
    group = add_group(api, ssl_certificate=name, client_certificate=bundle, client_certificate_mode="on")
    assert_error(change(api, group, client_certificate=""), 400, says="needs a client_certificate")
    assert change(api, group, client_certificate="", client_certificate_mode="off").status == 200


def test_one_certificate_has_one_bundle_and_the_strictest_mode(api: API) -> None:
    name, one, two = upload(api), upload_bundle(api), upload_bundle(api, make_ca("Other Clients"))
    group = add_group(api, ssl_certificate=name, client_certificate=one, client_certificate_mode="on")
    other = add_group(api, ssl_certificate=name, client_certificate=two)  # mode off: nothing is checked by it
    answer = change(api, other, client_certificate_mode="optional")
    assert_error(answer, 400, says=f"{group!r} serves the certificate {name!r} too, and checks clients by {one!r}")
    assert change(api, other, client_certificate=one, client_certificate_mode="optional").status == 200
    assert change(api, group, client_certificate_mode="off").status == 200


def test_a_replacement_that_would_mix_two_bundles_is_refused(api: API) -> None:
    old, new = upload(api), upload(api)
    bundles = [upload_bundle(api, make_ca(f"Clients {number}")) for number in range(2)]
    groups = [
        add_group(api, ssl_certificate=name, client_certificate=bundle, client_certificate_mode="on")
        for name, bundle in zip((old, new), bundles, strict=True)
    ]
    answer = api.call("PUT", f"{CERTS}/{new}?replace_cert_id={old}")
    assert_error(answer, 400, says="would share")
    assert api.call("GET", f"{GROUPS}/{groups[0]}").json["ssl_certificate"] == old


def test_changes_that_matter_to_clients_start_a_deployment(api: API) -> None:
    name, bundle = upload(api), upload_bundle(api)
    attach(api, name)
    settle(api, name, None)
    group = add_group(api, ssl_certificate=name, client_certificate=bundle)
    assert not deploying(api, name), "mode off, and nothing was checked before"
    assert change(api, group, client_certificate_mode="on").status == 200
    assert deploying(api, name)
    replaced = upload_bundle(api, make_ca("Next Clients"))
    mark = PolicyMark(mode=ClientCertificateMode.ON, bundle=EntryID(bundle), digest="as it was")
    settle(api, name, mark)
    assert api.call("PUT", f"{CERTS}/{replaced}?replace_cert_id={bundle}").status == 200
    assert deploying(api, name)
    assert_error(api.call("DELETE", f"{CERTS}/{bundle}"), 400, says="still check clients by")


def test_a_version_of_the_configuration_that_comes_back_brings_its_check(api: API) -> None:
    name, bundle = upload(api), upload_bundle(api)
    attach(api, name)
    settle(api, name, None)
    group = add_group(api, ssl_certificate=name, client_certificate=bundle, client_certificate_mode="on")
    number = api.call("GET", "/api/v4.3/conf/configs/prod").json["version"]
    assert change(api, group, client_certificate_mode="off").status == 200
    settle(api, name, None)
    assert api.call("PUT", f"/api/v4.3/conf/configs/prod/versions/{number}/revert").status == 200
    assert deploying(api, name)


def test_lists_come_with_a_bundle_and_must_be_its_own(api: API) -> None:
    ours, theirs = make_ca("Ours"), make_ca("Theirs")
    name = upload_bundle(api, ours, crl=[crl_of(ours)])
    assert api.call("GET", f"{CERTS}/{name}").json["crl"] == list(find_entry(api, name).crl)
    answer = post_bundle(api, api.new_name(), ours, crl=[crl_of(ours), crl_of(theirs)])
    assert_error(answer, 400, says="item 2 (of 'C=DE, O=Orbit, CN=Theirs') is not signed by a CA of the bundle")
    answer = post_bundle(api, api.new_name(), ours, theirs, crl=[crl_of(ours)])
    assert_error(answer, 400, says="no list is of 'C=DE, O=Orbit, CN=Theirs'")


@pytest.mark.parametrize("side", ["clientCA", "backendCA"])
def test_a_bundle_shows_when_the_first_of_its_cas_ends(api: API, side: str) -> None:
    name = upload_bundle(api, api.ca, side=side)
    assert api.call("GET", f"{CERTS}/{name}").json["expires"] == f"{api.ca.certificate.not_valid_after_utc:%Y-%m-%d}"


def test_a_ca_that_issues_for_servers_alone_is_not_asked_for_what_backends_are_shown(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    public = FakeIssuer(name="le", directory=LETS_ENCRYPT, can_issue_wildcards=False)
    private = FakeIssuer(name="own", directory="internal", can_issue_wildcards=False)
    for issuer, status in ((public, 400), (private, 201)):
        with run_api(tmp_path_factory.mktemp("api"), issuers=(issuer,)) as other:
            document = {"side": "serverToBackendMTLS"}
            path = f"{CERTS}/backend?domains=client.example.test"
            answer = other.call("POST", path, document=document)
            assert answer.status == status
            if status == 400:
                assert_error(answer, 400, says="issues for servers alone")
                assert other.call("GET", f"{CERTS}/backend").status == 404
            assert other.generate("www", "www.example.test").status == 201, "side server is no matter"
