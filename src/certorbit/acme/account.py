"""The account (RFC 8555 §7.3): its key is stored before the CA hears of it, so no account is ever lost."""

import asyncio
from typing import Any

import structlog

from certorbit.acme.answer import Answer, rubbish
from certorbit.acme.exchange import Exchange, Signer
from certorbit.acme.jws import AccountKey, decode_base64url, encode_binding
from certorbit.acme.problems import About, ProblemDocument, ProblemType, refusal
from certorbit.clock import Clock
from certorbit.errors import AccountProblem
from certorbit.model.order import Account, account_key_context
from certorbit.net.guard import check_ca_url
from certorbit.ports.keyring import Keyring
from certorbit.ports.store import Store, UnitOfWork
from certorbit.settings import IssuerSettings

log = structlog.get_logger(__name__)


class AccountDoor:
    """Signs requests with the issuer's account, which it registers when there is none.

    One account per directory and issuer name. Callers in one process share one registration; processes that race
    find one stored key, and for one key the CA has one account (RFC 8555 §7.3.1).
    """

    def __init__(
        self, exchange: Exchange, *, settings: IssuerSettings, store: Store, keyring: Keyring, clock: Clock
    ) -> None:
        self._exchange = exchange
        self._settings = settings
        self._store = store
        self._keyring = keyring
        self._clock = clock
        self._signer: Signer | None = None
        self._turn = asyncio.Lock()

    async def post(
        self,
        url: str,
        payload: dict[str, Any] | None,
        *,
        about: About,
        once: bool = False,
        accept: str = "application/json",
    ) -> Answer:
        """Send a request signed by the account; the parameters are those of `Exchange.post`.

        A CA that no longer knows the account gets it registered again with the same key, once.
        """
        signer = await self.signer()
        try:
            return await self._exchange.post(url, payload, signer=signer, about=about, once=once, accept=accept)
        except AccountProblem as problem:
            if problem.type != ProblemType.ACCOUNT_DOES_NOT_EXIST:
                raise
            log.warning("acme.account_unknown", issuer=self._settings.name, account=signer.kid)
        signer = await self._register_again(signer)
        return await self._exchange.post(url, payload, signer=signer, about=about, once=once, accept=accept)

    async def fetch(self, url: str, *, about: About) -> Answer:
        """Return a resource by POST-as-GET (RFC 8555 §6.3)."""
        return await self.post(url, None, about=about)

    async def signer(self) -> Signer:
        """Return key and URL of the registered account.

        Raises:
            AccountProblem: the CA refuses the account (terms, external binding, contact, deactivated).
            Unreachable: the CA or the store does not answer.
        """
        if self._signer is not None:
            return self._signer
        async with self._turn:
            if self._signer is None:
                self._signer = await self._load_or_register()
            return self._signer

    async def get_url(self) -> str:
        """Return the account's URL, registering it when there is none."""
        kid = (await self.signer()).kid
        assert kid is not None
        return kid

    async def find(self) -> str | None:
        """Return the URL that the CA has for the stored key; None if it has no account for it (RFC 8555 §7.3.1)."""
        account = await self._store.read(self._find_row)
        if account is None:
            return None
        try:
            return await self._register(self._open_key(account), only_existing=True)
        except AccountProblem as problem:
            if problem.type == ProblemType.ACCOUNT_DOES_NOT_EXIST:
                return None
            raise

    async def deactivate(self) -> None:
        """Deactivate the account at the CA (RFC 8555 §7.3.6); it can't be used or registered again."""
        url = await self.get_url()
        await self.post(url, {"status": "deactivated"}, about=About.ACCOUNT)
        log.info("acme.account_deactivated", issuer=self._settings.name, account=url)

    async def _load_or_register(self) -> Signer:
        account = await self._store.read(self._find_row)
        if account is None:
            account = await self._store_new_key()
        key = self._open_key(account)
        return Signer(key, account.url or await self._register_and_store(key))

    async def _register_again(self, stale: Signer) -> Signer:
        async with self._turn:
            if self._signer is None or self._signer.kid == stale.kid:  # else somebody was quicker
                self._signer = Signer(stale.key, await self._register_and_store(stale.key))
            return self._signer

    async def _store_new_key(self) -> Account:
        directory, name = self._settings.directory, self._settings.name
        sealed_key = self._keyring.seal(AccountKey.generate().to_pem(), context=account_key_context(directory, name))
        new = Account(directory, name, sealed_key, "", self._settings.contact, self._clock.now())

        def insert_or_find(tx: UnitOfWork) -> Account:
            # Another process may have inserted its key first; then that one counts.
            found = self._find_row(tx)
            if found is None:
                tx.accounts.add(new)
            return found or new

        return await self._store.write(insert_or_find)

    async def _register_and_store(self, key: AccountKey) -> str:
        url = await self._register(key, only_existing=False)
        directory, name = self._settings.directory, self._settings.name
        await self._store.write(lambda tx: tx.accounts.set_url(directory, name, url=url))
        log.info("acme.account_registered", issuer=name, account=url)
        return url

    async def _register(self, key: AccountKey, *, only_existing: bool) -> str:
        url = (await self._exchange.directory()).new_account
        payload: dict[str, Any] = {"onlyReturnExisting": True} if only_existing else self._registration(key, url)
        answer = await self._exchange.post(url, payload, signer=Signer(key, None), about=About.NEW_ACCOUNT)
        location = answer.location()
        if not location:
            raise rubbish(answer, "no Location of the account")
        check_ca_url(location, directory=self._settings.directory)
        return location

    def _registration(self, key: AccountKey, url: str) -> dict[str, Any]:
        payload: dict[str, Any] = {"termsOfServiceAgreed": True}
        if self._settings.contact:
            payload["contact"] = [c if ":" in c else f"mailto:{c}" for c in self._settings.contact]
        if self._settings.eab_kid:
            payload["externalAccountBinding"] = encode_binding(
                key.jwk, kid=self._settings.eab_kid, hmac_key=self._binding_key(), url=url
            )
        return payload

    def _binding_key(self) -> bytes:
        try:
            return decode_base64url(self._settings.eab_hmac_key.get_secret_value())
        except ValueError:
            problem = ProblemDocument(ProblemType.EXTERNAL_ACCOUNT_REQUIRED, "our eab_hmac_key is not base64url.")
            raise refusal(problem, ca=self._settings.name, about=About.NEW_ACCOUNT) from None

    def _find_row(self, tx: UnitOfWork) -> Account | None:
        return tx.accounts.find(self._settings.directory, self._settings.name)

    def _open_key(self, account: Account) -> AccountKey:
        context = account_key_context(account.directory, account.name)
        return AccountKey.from_pem(self._keyring.open(account.sealed_key, context=context))
