"""Proving control: authorizations and challenges (RFC 8555 §7.5), for all identifiers of an order at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from certorbit.acme.account import AccountDoor
from certorbit.acme.problems import URN, About, ProblemDocument, ProblemType, list_by_identifier
from certorbit.acme.resources import Authorization, Challenge, Order, Status, read_authorization
from certorbit.acme.waiting import Pacer, gather_all
from certorbit.clock import Chance, Clock
from certorbit.errors import (
    AccountProblem,
    CertorbitError,
    ChallengeFailed,
    IssuerRefused,
    OrderLost,
    RateLimited,
    Unreachable,
)
from certorbit.model.backoff import Poll
from certorbit.ports.solver import Proof, Solver

log = structlog.get_logger(__name__)

NO_SOLVER = "urn:certorbit:error:noSolver"  # the CA offers no challenge that a solver of ours can answer
DNS_01 = "dns-01"


@dataclass(frozen=True, slots=True)
class _Claim:
    """One authorization, the challenge that we chose, and what answers it."""

    authorization: Authorization
    challenge: Challenge
    solver: Solver
    proof: Proof


class Prover:
    """Brings the authorizations of orders to `valid`.

    Args:
        solvers: in order of preference; the first that covers the identifier, and whose challenge the CA offers, is
            used.
        policy: the pace of the polls, and the limit in all for one order.
    """

    def __init__(
        self, account: AccountDoor, *, ca: str, solvers: Sequence[Solver], clock: Clock, chance: Chance, policy: Poll
    ) -> None:
        self._account = account
        self._ca = ca
        self._solvers = solvers
        self._dns_solvers = [solver for solver in solvers if solver.challenge_type == DNS_01]
        self._clock = clock
        self._chance = chance
        self._policy = policy

    async def prove(self, order: Order, *, is_resumed: bool = False) -> None:
        """Return when every authorization of the order is valid.

        Args:
            is_resumed: another process, or another run of this one, may have begun and left proofs behind.

        Raises:
            ChallengeFailed: one or more are invalid, or can't be proven by our solvers; all of them are named.
            OrderLost: one is expired, revoked or deactivated.
            Unreachable: the CA did not decide within the limit.
        """
        authorizations = await self._fetch_all(order)
        signer = await self._account.signer()
        if is_resumed:
            await self._clean_up(self._left_behind(authorizations, signer.key.thumbprint))
        self._check(authorizations)
        claims = self._choose([a for a in authorizations if a.status is Status.PENDING], signer.key.thumbprint)
        try:
            await gather_all(solver.present(proofs) for solver, proofs in _by_solver(claims))
            self._check(await gather_all(map(self._validate, claims)))
        finally:
            await self._clean_up(claims)

    async def clean_up_after(self, order: Order) -> None:
        """Take away the proofs that a run which died may have left behind. Raises nothing of the CA's or solvers'."""
        if not self._dns_solvers:
            return
        try:
            authorizations = await self._fetch_all(order)
            signer = await self._account.signer()
        except CertorbitError as error:
            log.warning("acme.clean_up_failed", issuer=self._ca, order_url=order.url, message=error.message)
            return
        await self._clean_up(self._left_behind(authorizations, signer.key.thumbprint))

    async def explain(self, order: Order) -> None:
        """Raise what is wrong with the authorizations of an invalid order; return if nothing is."""
        self._check(await self._fetch_all(order))

    async def _fetch_all(self, order: Order) -> list[Authorization]:
        return await gather_all(map(self._fetch, order.authorizations))

    async def _fetch(self, url: str) -> Authorization:
        answer = await self._account.fetch(url, about=About.AUTHORIZATION)
        return read_authorization(answer, now=self._clock.now())

    def _choose(self, authorizations: Sequence[Authorization], thumbprint: str) -> list[_Claim]:
        claims: list[_Claim] = []
        problems: dict[str, ProblemDocument] = {}
        for authorization in authorizations:
            offered = {challenge.type: challenge for challenge in authorization.challenges if challenge.token}
            able = [solver for solver in self._solvers if _covers(solver, authorization)]
            solver = next((solver for solver in able if solver.challenge_type in offered), None)
            if solver is None:
                ours = ", ".join(dict.fromkeys(solver.challenge_type for solver in able)) or "none"
                detail = f"the CA offers {', '.join(sorted(offered)) or 'no challenge'}, our solvers for it: {ours}"
                problems[authorization.name] = ProblemDocument(NO_SOLVER, detail)
                continue
            claims.append(_claim(authorization, offered[solver.challenge_type], solver, thumbprint))
        if problems:
            raise self._failed(problems)
        return claims

    def _left_behind(self, authorizations: Sequence[Authorization], thumbprint: str) -> list[_Claim]:
        """Return what may have been shown for authorizations that are decided.

        Only DNS-01: nobody else takes its records away. A decided authorization still has the challenge that was
        used, with its token (RFC 8555 §7.1.4).
        """
        claims: list[_Claim] = []
        for authorization in authorizations:
            used = [c for c in authorization.challenges if c.type == DNS_01 and c.token]
            solver = next((s for s in self._dns_solvers if _covers(s, authorization)), None)
            if authorization.status is not Status.PENDING and solver is not None:
                claims += [_claim(authorization, challenge, solver, thumbprint) for challenge in used]
        return claims

    async def _validate(self, claim: _Claim) -> Authorization:
        """Ask the CA to look at the proof and return the authorization in its final state."""
        wished = None
        if claim.challenge.status is Status.PENDING:  # else an earlier run of ours asked before it died
            try:
                # RFC 8555 §7.5.1: the response of these challenge types is an empty object.
                answer = await self._account.post(claim.challenge.url, {}, about=About.CHALLENGE)
                wished = answer.retry_after(self._clock.now())
            except IssuerRefused as refused:
                if isinstance(refused, RateLimited | AccountProblem | OrderLost):
                    raise
                # A repeat whose first answer was lost is refused too; only the authorization knows.
                authorization = await self._fetch(claim.authorization.url)
                if authorization.status is Status.PENDING and _is_untouched(authorization, claim.challenge):
                    raise
        pacer = Pacer(policy=self._policy, clock=self._clock, chance=self._chance)
        while await pacer.pause(wished):
            authorization = await self._fetch(claim.authorization.url)
            if authorization.status is not Status.PENDING:
                return authorization
            wished = authorization.retry_after
        name = claim.authorization.name
        raise Unreachable(
            f"The CA {self._ca} did not decide on {name} within {self._policy.limit:.0f} seconds.",
            subject=name,
            phase="answer",
        )

    def _check(self, authorizations: Sequence[Authorization]) -> None:
        """Raise for those that are neither valid nor pending."""
        failed = {a.name: a.problem or _wordless(a) for a in authorizations if a.status is Status.INVALID}
        if failed:
            raise self._failed(failed)
        over = {a.name: str(a.status) for a in authorizations if a.status not in {Status.VALID, Status.PENDING}}
        if over:
            raise OrderLost(
                f"The CA {self._ca} has authorizations that are over ({list_by_identifier(over)}).",
                type="about:blank",
                detail="authorizations are over",
                subproblems=over,
            )

    def _failed(self, problems: Mapping[str, ProblemDocument]) -> ChallengeFailed:
        sentences = {name: problem.sentence for name, problem in problems.items()}
        types = {problem.type for problem in problems.values()}
        # RFC 8555 §6.7.1: `compound` stands for several problems.
        kind = types.pop() if len(types) == 1 else str(ProblemType.COMPOUND)
        only = next(iter(problems.values())) if len(problems) == 1 else None
        detail = only.detail if only else f"{len(problems)} identifiers failed ({kind.removeprefix(URN)})"
        return ChallengeFailed(
            f"The CA {self._ca} could not validate {list_by_identifier(sentences)}",
            type=kind,
            detail=detail,
            subproblems=sentences,
        )

    async def _clean_up(self, claims: Sequence[_Claim]) -> None:
        for solver, proofs in _by_solver(claims):
            try:
                await solver.clean_up(proofs)
            except CertorbitError as error:
                # Proofs expire by themselves; what became of the order is more important than this.
                log.warning(
                    "acme.clean_up_failed", issuer=self._ca, solver=solver.challenge_type, message=error.message
                )


def _covers(solver: Solver, authorization: Authorization) -> bool:
    return solver.covers(authorization.identifier, is_wildcard=authorization.is_wildcard)


def _claim(authorization: Authorization, challenge: Challenge, solver: Solver, thumbprint: str) -> _Claim:
    # RFC 8555 §8.1: the key authorization is the token and the account key's thumbprint.
    proof = Proof(authorization.identifier, challenge.token, f"{challenge.token}.{thumbprint}")
    return _Claim(authorization, challenge, solver, proof)


def _by_solver(claims: Sequence[_Claim]) -> list[tuple[Solver, list[Proof]]]:
    grouped: dict[int, tuple[Solver, list[Proof]]] = {}
    for claim in claims:
        grouped.setdefault(id(claim.solver), (claim.solver, []))[1].append(claim.proof)
    return list(grouped.values())


def _is_untouched(authorization: Authorization, challenge: Challenge) -> bool:
    return any(c.url == challenge.url and c.status is Status.PENDING for c in authorization.challenges)


def _wordless(authorization: Authorization) -> ProblemDocument:
    return ProblemDocument("about:blank", f"the authorization is {authorization.status}")
