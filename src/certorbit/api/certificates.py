"""The certificates of a configuration, in every dialect (contract.md, Certificates)."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query
from starlette.requests import Request
from starlette.responses import Response

from certorbit.api.answers import JSONAnswer, download, message_answer
from certorbit.api.authentication import CertificateReader, Reader, Writer
from certorbit.api.certificate_answers import render_certificate
from certorbit.api.dialects import DIALECTS, Dialect
from certorbit.api.documentation import answers_file, answers_json, takes_body
from certorbit.api.issuance_wait import wait_for_issuance
from certorbit.api.parts import Parts
from certorbit.api.reading import (
    ConfigPath,
    EntryPath,
    Flag,
    read_body,
    read_config,
    read_password,
    read_replaced,
)
from certorbit.api.routes import RouteAdder
from certorbit.api.schemas import (
    CertificateCreate,
    CertificateList,
    LinkedCertificate,
    MessageBody,
    NamedCertificate,
    NamedCertificateList,
)
from certorbit.api.site_schemas import CertificateUserList
from certorbit.errors import BadInput
from certorbit.model.access import Principal, Right
from certorbit.model.commands import ChangeEntry, Generate, Upload
from certorbit.model.entry import ConfigID, Entry, EntryID, EntryUID, ProviderLink, Side, VersionID, parse_side
from certorbit.model.identifiers import normalise_identifiers
from certorbit.model.material import Material
from certorbit.model.site import Site
from certorbit.pki.crl import check_bundle_crls, read_crls
from certorbit.pki.upload import read_upload
from certorbit.ports.store import UnitOfWork
from certorbit.services import certificates, export, links
from certorbit.services.verdicts import is_revoked

CopiesByEntry = Mapping[EntryUID, Sequence[ProviderLink]]

CREATED = "Successfully created entry"
MOST_DOMAINS = 1000  # read at all; a certificate has 100 names, after duplicates and empty ones are left out
_MOST_READ_AT_ONCE = 2  # uploads; a hostile one takes half a second of CPU, and exports need threads, too
_DEFAULT_BODY = {"id": "", "le_auto_renew": True, "le_auto_replace": True, "le_hash": "", "provider_links": []}


@dataclass(frozen=True, slots=True)
class CertificateRoutes:
    """The endpoints of one dialect. uploads: slots for those that are read at this moment, in any dialect."""

    parts: Parts
    dialect: Dialect
    uploads: asyncio.Semaphore

    async def list_certificates(self, config: ConfigPath, caller: CertificateReader) -> Response:
        """Get a list of the certificates of a configuration"""
        config_id, now = read_config(config), self.parts.clock.now()

        def read(tx: UnitOfWork) -> tuple[Sequence[Entry], CopiesByEntry, frozenset[VersionID]]:
            entries = certificates.list_entries(tx, config_id)
            copies = links.list_links(tx, config_id) if self.dialect.has_links_in_lists else {}
            return entries, copies, tx.revocations.list_revoked(config_id, now=now)

        entries, copies, revoked = await self.parts.store.read(read)
        if caller.has(Right.EXPORT_KEYS):
            await self._record_export(config_id, entries, form="json")
        # In a thread: opening 10,000 keys takes longer than others should wait for their answer.
        return await asyncio.to_thread(self._answer_list, entries, copies, revoked, caller)

    async def get_certificate(self, config: ConfigPath, entry_id: EntryPath, caller: CertificateReader) -> Response:
        """Get a specific certificate of a configuration"""
        config_id, now = read_config(config), self.parts.clock.now()

        def read(tx: UnitOfWork) -> tuple[Entry, Sequence[ProviderLink], bool]:
            entry = certificates.get_entry(tx, config_id, EntryID(entry_id))
            return entry, links.list_links_of(tx, entry), is_revoked(tx, entry, now=now)

        entry, copies, revoked = await self.parts.store.read(read)
        if caller.has(Right.EXPORT_KEYS):
            await self._record_export(config_id, [entry], form="json")
        shown = links.all_links(entry, copies)
        return JSONAnswer(self._render(entry, caller=caller, shown=shown, revoked=revoked))

    async def create_certificate(
        self,
        request: Request,
        config: ConfigPath,
        entry_id: EntryPath,
        caller: Writer,
        domains: Annotated[
            list[str], Query(default_factory=list, max_length=MOST_DOMAINS, description="Names to generate for")
        ],
    ) -> Response:
        """Create a new certificate for a list of domains, or upload an existing one

        `cert_body` uploads, `domains` generates; both or neither is an input error. Repeating a request is safe.
        """
        config_id = read_config(config)
        body = await read_body(request, CertificateCreate, optional=True)
        if body.id not in {"", entry_id}:
            raise BadInput(f"id: the body says {body.id[:80]!r}, the path {entry_id!r}; leave it empty.", subject="id")
        names = [name for name in domains if name.strip()]  # `?domains=` is how some clients say 'none'
        if bool(names) == bool(body.cert_body.strip()):
            raise BadInput(
                "Give either cert_body (to upload) or domains (to generate), not both and not neither.",
                subject="cert_body",
            )
        side = parse_side(body.side)
        if names:
            await self._generate(config_id, EntryID(entry_id), body=body, side=side, names=names, by=caller.name)
        else:
            await self._upload(config_id, EntryID(entry_id), body=body, side=side, by=caller.name)
        return message_answer(CREATED, status=201)

    async def change_certificate(
        self,
        config: ConfigPath,
        entry_id: EntryPath,
        caller: Writer,
        *,
        le_auto_renew: Annotated[Flag, Query(description="Renew a generated certificate before it ends")] = True,
        le_auto_replace: Annotated[Flag, Query(description="Replace an uploaded one by a generated one")] = True,
        replace_cert_id: Annotated[str, Query(description="What uses that certificate uses this one instead")] = "",
    ) -> Response:
        """Change settings of a specific certificate. ("le_" parameters refer to Let's Encrypt.)"""
        command = ChangeEntry(
            config=read_config(config),
            id=EntryID(entry_id),
            le_auto_renew=le_auto_renew,
            le_auto_replace=le_auto_replace,
            replace=read_replaced(replace_cert_id),
        )
        now = self.parts.clock.now()
        await self.parts.store.write(
            lambda tx: certificates.change(tx, command, by=caller.name, now=now, new_id=self.parts.new_id)
        )
        return message_answer(self.dialect.update_message)

    async def delete_certificate(self, config: ConfigPath, entry_id: EntryPath, caller: Writer) -> Response:
        """Delete an individual certificate from the specified configuration"""
        config_id, now, own_tls = read_config(config), self.parts.clock.now(), self.parts.settings.tls
        await self.parts.store.write(
            lambda tx: certificates.delete(tx, config_id, EntryID(entry_id), by=caller.name, now=now, own_tls=own_tls)
        )
        return message_answer(self.dialect.delete_message)

    async def list_certificate_links(self, config: ConfigPath, entry_id: EntryPath, _caller: Reader) -> Response:
        """Get the server groups that use a certificate"""
        config_id = read_config(config)

        def read(tx: UnitOfWork) -> Sequence[Site]:
            return links.list_users(tx, config_id, certificates.get_entry(tx, config_id, EntryID(entry_id)).id)

        users = await self.parts.store.read(read)
        return JSONAnswer({"total": len(users), "items": [{"id": site.id, "name": site.name} for site in users]})

    async def get_pem(self, config: ConfigPath, entry_id: EntryPath, caller: CertificateReader) -> Response:
        """Download key, leaf and chain in one PEM file"""
        entry = await self._get_entry(config, entry_id)
        _check_may_export(entry, caller=caller)
        await self._record_export(entry.config, [entry], form="pem")
        text = await asyncio.to_thread(export.render_pem, entry, keyring=self.parts.keyring)
        return download(text, media_type="application/x-pem-file", file_name=f"{entry.id}.pem")

    async def get_pfx(
        self,
        request: Request,
        config: ConfigPath,
        entry_id: EntryPath,
        caller: CertificateReader,
        x_pfx_password: Annotated[str, Header(description="Password of the store; none without it")] = "",  # noqa: ARG002 - for OpenAPI; read raw below
    ) -> Response:
        """Download key, leaf and chain as PFX (PKCS#12)"""
        password = read_password(request)
        entry = await self._get_entry(config, entry_id)
        _check_may_export(entry, caller=caller)
        await self._record_export(entry.config, [entry], form="pfx")
        store = await asyncio.to_thread(export.render_pfx, entry, keyring=self.parts.keyring, password=password)
        return download(store, media_type="application/x-pkcs12", file_name=f"{entry.id}.pfx")

    async def _get_entry(self, config: str, entry_id: str) -> Entry:
        config_id = read_config(config)
        return await self.parts.store.read(lambda tx: certificates.get_entry(tx, config_id, EntryID(entry_id)))

    async def _record_export(self, config: ConfigID, entries: Sequence[Entry], *, form: str) -> None:
        """Write down that the entries' private keys leave, if there are any; before they do."""
        leaving, now = [entry for entry in entries if export.has_key(entry)], self.parts.clock.now()
        if leaving:
            await self.parts.store.write(lambda tx: export.record_export(tx, config, leaving, form=form, now=now))

    async def _generate(
        self, config: ConfigID, entry_id: EntryID, *, body: CertificateCreate, side: Side, names: Sequence[str], by: str
    ) -> None:
        parts = self.parts
        command = Generate(
            config=config,
            id=entry_id,
            side=side,
            identifiers=normalise_identifiers(names),
            le_auto_renew=body.le_auto_renew,
            le_auto_replace=body.le_auto_replace,
            provider_links=_links_of(body),
        )
        now = parts.clock.now()
        first = parts.issuers_of(config)[0]
        certificates.check_issuer(side, first.directory)
        accepted = await parts.store.write(
            lambda tx: certificates.generate(
                tx, command, by=by, now=now, new_id=parts.new_id, covers=first.covers, issuer=first.name
            )
        )
        if accepted.operation is not None:
            await wait_for_issuance(parts, accepted.operation)

    async def _upload(
        self, config: ConfigID, entry_id: EntryID, *, body: CertificateCreate, side: Side, by: str
    ) -> None:
        parts = self.parts
        async with self.uploads:
            material, crl = await asyncio.to_thread(_read_material, body, side)
        command = Upload(
            config=config,
            id=entry_id,
            side=side,
            material=material,
            le_auto_renew=body.le_auto_renew,
            le_auto_replace=body.le_auto_replace,
            provider_links=_links_of(body),
            crl=crl,
        )
        now = parts.clock.now()
        await parts.store.write(
            lambda tx: certificates.upload(tx, command, by=by, now=now, new_id=parts.new_id, keyring=parts.keyring)
        )

    def _answer_list(
        self, entries: Sequence[Entry], copies: CopiesByEntry, revoked: frozenset[VersionID], caller: Principal
    ) -> Response:
        has_links = self.dialect.has_links_in_lists
        items = [
            self._render(
                entry,
                caller=caller,
                shown=links.all_links(entry, copies.get(entry.uid, ())) if has_links else None,
                revoked=entry.current is not None and entry.current.id in revoked,
            )
            for entry in entries
        ]
        return JSONAnswer({"total": len(items), "items": items})

    def _render(
        self, entry: Entry, *, caller: Principal, shown: Sequence[ProviderLink] | None, revoked: bool
    ) -> dict[str, Any]:
        key = export.open_key(entry, keyring=self.parts.keyring) if caller.has(Right.EXPORT_KEYS) else None
        return render_certificate(entry, dialect=self.dialect, key=key, links=shown, is_revoked=revoked)


def add_certificate_routes(app: FastAPI, parts: Parts) -> None:
    """Add the certificates under every dialect's prefix."""
    uploads = asyncio.Semaphore(_MOST_READ_AT_ONCE)
    for dialect in DIALECTS:
        _add_dialect(app, CertificateRoutes(parts, dialect, uploads))


def _add_dialect(app: FastAPI, routes: CertificateRoutes) -> None:
    dialect = routes.dialect
    listed = NamedCertificateList if dialect.has_name else CertificateList
    single = NamedCertificate if dialect.has_name else LinkedCertificate
    updated = MessageBody if dialect.update_message else None
    deleted = MessageBody if dialect.delete_message else None
    all_at = "/conf/{config}/certificates"
    one_at = f"{all_at}/{{entry_id}}"
    created = answers_json("Certificate created", MessageBody, 400, 404, 409, 413, 422, status=201)
    used = answers_json("The server groups", CertificateUserList, 404, 422)
    pem = answers_file("The PEM file", "application/x-pem-file", 400, 404, 422)
    pfx = answers_file("The PFX file", "application/x-pkcs12", 400, 404, 422)
    body = takes_body(CertificateCreate, required=False, default=_DEFAULT_BODY)
    add = RouteAdder(app, "Certificates", dialect).add
    add("GET", all_at, routes.list_certificates, answers_json("The certificates", listed, 404))
    add("GET", one_at, routes.get_certificate, answers_json("The certificate", single, 404, 422))
    add("POST", one_at, routes.create_certificate, created, status=201, body=body)
    add("PUT", one_at, routes.change_certificate, answers_json("Certificate modified", updated, 400, 404, 422))
    add("DELETE", one_at, routes.delete_certificate, answers_json("Certificate deleted", deleted, 400, 404, 422))
    add("GET", f"{one_at}/links", routes.list_certificate_links, used)
    add("GET", f"{one_at}/pem", routes.get_pem, pem)
    add("GET", f"{one_at}/pfx", routes.get_pfx, pfx)


def _links_of(body: CertificateCreate) -> tuple[ProviderLink, ...]:
    return tuple(ProviderLink(link=at.link, provider=at.provider, region=at.region) for at in body.provider_links)


def _read_material(body: CertificateCreate, side: Side) -> tuple[Material, tuple[str, ...]]:
    """Return what is uploaded and, of a CA bundle, its revocation lists, all checked. Raises BadMaterial."""
    material = read_upload(body.cert_body, body.private_key, side=side)
    if not side.is_ca_bundle:  # a leaf has no CRLs of its own: its issuer's is kept once, for all (contract.md)
        return material, ()
    crls = read_crls(body.crl)
    check_bundle_crls(crls, bundle_pem=material.chain_pem)
    return material, crls


def _check_may_export(entry: Entry, *, caller: Principal) -> None:
    if export.has_key(entry):
        caller.check(Right.EXPORT_KEYS)
