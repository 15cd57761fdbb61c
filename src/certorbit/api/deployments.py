"""Deployments and targets in the native API: what is served where, by which proof, and whether targets are usable."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final

from fastapi import FastAPI, Path, Query
from starlette.responses import Response

from certorbit.api import balancer_schemas as schemas
from certorbit.api.answers import JSONAnswer, format_instant, format_optional
from certorbit.api.authentication import Reader, ReaderOfOwn, Writer
from certorbit.api.documentation import answers_json
from certorbit.api.operations import reachable_configurations, render_problem
from certorbit.api.parts import Parts
from certorbit.api.reading import LONGEST_CONFIG, ConfigPath, EntryPath, IDPath, read_config
from certorbit.api.routes import RouteAdder
from certorbit.deploying.checking import check_target, is_usable
from certorbit.errors import NotFound
from certorbit.model.audit import Action, AuditEvent
from certorbit.model.deployment import Attachment, Proof, Rollout
from certorbit.model.entry import EntryID
from certorbit.model.operation import OperationID, OperationState
from certorbit.model.target_look import TargetLook
from certorbit.services import deployments, operations
from certorbit.services.deployments import Deployment

PREFIX = "/api/certorbit/v1"
_NEVER: Final = TargetLook(seen_at=None, unseen_since=None, problem=None)  # nobody looked at the target yet
_NO_CONTROLS = r"^[^\x00-\x1f\x7f]*$"
TargetPath = Annotated[str, Path(pattern=r"^[a-z][a-z0-9-]{0,31}$", description="The target's name in the settings")]


@dataclass(frozen=True, slots=True)
class DeploymentRoutes:
    """The endpoints."""

    parts: Parts

    async def list_deployments(
        self,
        caller: ReaderOfOwn,
        limit: Annotated[int, Query(ge=1, le=operations.MOST_PER_PAGE)] = 100,
        cursor: Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_=-]*$", max_length=400)] = None,
        config: Annotated[str | None, Query(pattern=_NO_CONTROLS, max_length=LONGEST_CONFIG)] = None,
        state: Annotated[OperationState | None, Query()] = None,
    ) -> Response:
        """Get deployments with each listener's proof, newest first, a page at a time"""
        items, next_cursor, total = await self.parts.store.read(
            lambda tx: deployments.list_deployments(
                tx, config=reachable_configurations(caller, config), state=state, cursor=cursor, limit=limit
            )
        )
        return JSONAnswer({"total": total, "items": [_render(item) for item in items], "next_cursor": next_cursor})

    async def get_deployment(self, operation_id: IDPath, caller: ReaderOfOwn) -> Response:
        """Get one deployment with each listener's proof"""
        found = await self.parts.store.read(lambda tx: deployments.get_deployment(tx, OperationID(operation_id)))
        caller.check_configuration(found.operation.config)
        return JSONAnswer(_render(found))

    async def list_certificate_deployments(self, config: ConfigPath, entry_id: EntryPath, _caller: Reader) -> Response:
        """Get a certificate's deployments, newest first, and where it is attached"""
        config_id = read_config(config)
        (items, total, attachments), looks = await self.parts.store.read(
            lambda tx: (deployments.list_of_certificate(tx, config_id, EntryID(entry_id)), tx.listeners.looks())
        )
        return JSONAnswer(
            {
                "total": total,
                "items": [_render(item) for item in items],
                "attachments": [
                    _render_attachment(attachment, looks.get(attachment.listener.target, _NEVER))
                    for attachment in attachments
                ],
            }
        )

    async def deploy_certificate(self, config: ConfigPath, entry_id: EntryPath, _caller: Writer) -> Response:
        """Deploy a certificate now: everything is looked at and proven anew where it isn't as it should be"""
        config_id, now, new_id = read_config(config), self.parts.clock.now(), self.parts.new_id
        operation = await self.parts.store.write(
            lambda tx: deployments.deploy_now(tx, config_id, EntryID(entry_id), now=now, new_id=new_id)
        )
        return JSONAnswer({"operation": operation.id if operation else None}, status_code=202)

    async def list_targets(self, caller: ReaderOfOwn) -> Response:
        """Get the targets of the settings; for a key of some configurations those that are open to one of them"""
        found, looks = await self.parts.store.read(lambda tx: (tx.listeners.list(), tx.listeners.looks()))
        counts = Counter(listener.key.target for listener in found)
        types = {table.name: table.type for table in self.parts.settings.targets}
        items = [
            {
                "name": name,
                "type": types.get(name, ""),
                "provider": placed.target.provider,
                "configurations": [config for config in placed.configurations if caller.may_reach(config)],
                **_render_look(looks.get(name, _NEVER), listeners=counts[name]),
            }
            for name, placed in self.parts.targets.items()
            if not caller.is_limited or any(map(placed.is_open_to, caller.configurations))
        ]
        return JSONAnswer({"total": len(items), "items": items})

    async def check_target(self, target: TargetPath, _caller: Writer) -> Response:
        """Find out whether a target can be reached, read and written; nothing that is served changes"""
        placed = self.parts.targets.get(target)
        if placed is None:
            names = ", ".join(self.parts.targets) or "none"
            raise NotFound(
                f"There is no target {target!r} in the settings; there are: {names}. They were read at the service's"
                " start: restart it after a change.",
                subject="target",
            )
        event, now = AuditEvent(action=Action.TARGET_CHECKED, objects=(target,)), self.parts.clock.now()
        await self.parts.store.write(lambda tx: tx.audit.add(event, now=now))
        findings = await check_target(placed.target)
        return JSONAnswer(
            {
                "target": target,
                "ok": is_usable(findings),
                "findings": [
                    {"what": finding.what, "grade": finding.grade.value, "message": finding.message}
                    for finding in findings
                ],
            }
        )


def add_deployment_routes(app: FastAPI, parts: Parts) -> None:
    """Add deployments and targets to the native API."""
    routes = DeploymentRoutes(parts)
    of_certificate = f"{PREFIX}/configs/{{config}}/certificates/{{entry_id}}/deployments"
    page = answers_json("A page of deployments", schemas.DeploymentList, 400, 422)
    one = answers_json("The deployment", schemas.DeploymentBody, 404, 422)
    own = answers_json("The certificate's deployments", schemas.CertificateDeployments, 404, 422)
    started = answers_json("What was started", schemas.DeploymentStarted, 400, 404, 422, status=202)
    targets = answers_json("The targets", schemas.TargetList)
    checked = answers_json("What was found", schemas.CheckBody, 404, 422)
    add = RouteAdder(app, "Deployments").add
    add("GET", f"{PREFIX}/deployments", routes.list_deployments, page)
    add("GET", f"{PREFIX}/deployments/{{operation_id}}", routes.get_deployment, one)
    add("GET", of_certificate, routes.list_certificate_deployments, own)
    add("POST", of_certificate, routes.deploy_certificate, started)
    add("GET", f"{PREFIX}/targets", routes.list_targets, targets)
    add("POST", f"{PREFIX}/targets/{{target}}/check", routes.check_target, checked)


def _render(deployment: Deployment) -> dict[str, Any]:
    operation = deployment.operation
    return {
        "id": operation.id,
        "config": operation.config,
        "entry": operation.entry_id,
        "state": operation.state.value,
        "attempt": operation.attempts_begun,
        "created_at": format_instant(operation.created_at),
        "updated_at": format_instant(operation.updated_at),
        "finished_at": format_optional(operation.finished_at),
        "next_attempt_at": format_optional(operation.next_attempt_at),
        "problem": render_problem(operation.problem),
        "listeners": [_render_rollout(rollout) for rollout in deployment.rollouts],
    }


def _render_rollout(rollout: Rollout) -> dict[str, Any]:
    return {
        "listener": asdict(rollout.listener),
        "is_default": rollout.is_default,
        "from_version": rollout.from_version,
        "to_version": rollout.to_version,
        "stage": rollout.stage.value,
        "updated_at": format_instant(rollout.updated_at),
        "proof": _render_proof(rollout.proof),
        "problem": render_problem(rollout.problem),
    }


def _render_look(look: TargetLook, *, listeners: int) -> dict[str, Any]:
    return {
        "listeners": None if look.seen_at is None and not listeners else listeners,
        "seen_at": format_optional(look.seen_at),
        "unseen_since": format_optional(look.unseen_since),
        "problem": render_problem(look.problem),
    }


def _render_attachment(attachment: Attachment, look: TargetLook) -> dict[str, Any]:
    return {
        "listener": asdict(attachment.listener),
        "is_default": attachment.is_default,
        "wanted": attachment.wanted.value,
        "stage": attachment.stage.value,
        "version": attachment.version,
        "proof": _render_proof(attachment.proof),
        "problem": render_problem(attachment.problem),
        "unseen_since": format_optional(look.unseen_since),
        "unseen_problem": render_problem(look.problem),
    }


def _render_proof(proof: Proof | None) -> dict[str, Any] | None:
    if proof is None:
        return None
    return {
        "at": format_instant(proof.at),
        "is_served": proof.is_served,
        "message": proof.message,
        "handshakes": [
            {
                "address": one.address,
                "port": one.port,
                "server_name": one.server_name,
                "fingerprint": one.leaf,
                "error": one.error,
            }
            for one in proof.handshakes
        ],
    }
