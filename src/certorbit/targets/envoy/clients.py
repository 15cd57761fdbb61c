"""What a listener of Envoy checks clients by: its validation context, a secret beside its certificates' ones.

Whether a client must show a certificate at all stands in Envoy's own configuration (`require_client_certificate`),
which no secret changes. So a listener can have one mode only, and the settings say which. Everything here is pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from certorbit.errors import TargetRefused
from certorbit.model.client_policy import ClientPolicy
from certorbit.model.site import ClientCertificateMode
from certorbit.ports.target import Finding, Grade, ShelfState
from certorbit.targets.envoy.catalog import Change, Place
from certorbit.targets.envoy.messages import Secret, ValidationContext
from certorbit.targets.envoy.outlet import Outlet
from certorbit.targets.envoy.session import Catalog

_PAGE: Final = "docs/targets/envoy.md, Client certificates"
# Envoy 1.39 asks nobody for a certificate by an empty context, whatever `require_client_certificate` says. The only
# good certificate is here one that nobody can make.
_NOBODY: Final = ValidationContext(leaf_hashes=("0" * 64,))
_EVERYBODY: Final = ValidationContext()


def make_checks(places: Iterable[Place], state: ShelfState) -> Catalog:
    """Return the validation context of every listener that has one by the settings.

    Envoy opens a listener when it has this secret, too. Before there is a policy, a listener that demands certificates
    lets nobody in, and another one asks for none.
    """
    return {
        place.clients_secret: _make_secret(place, state.policies.get(place.scope))
        for place in places
        if place.clients_secret
    }


def _make_secret(place: Place, policy: ClientPolicy | None) -> Secret:
    if policy is not None:
        context = ValidationContext(ca_pem=policy.ca_pem, crl_pem=policy.crl_pem)
        return Secret(name=place.clients_secret, version=f"clients-{policy.digest[:32]}", content=context)
    if place.demands_certificates:
        return Secret(name=place.clients_secret, version="clients-nobody", content=_NOBODY)
    return Secret(name=place.clients_secret, version="clients-unasked", content=_EVERYBODY)


def plan_policy(state: ShelfState, place: Place, policy: ClientPolicy | None) -> Change:
    """Keep the policy for the listener, or none.

    Raises:
        TargetRefused: Envoy's configuration of the listener isn't made for it.
    """
    if misfit := find_misfit(place, policy):
        raise TargetRefused(f"{place.key}: {misfit} ({_PAGE}).", subject=str(place.key))
    is_same = state.policies.get(place.scope) == policy
    return Change(handle=place.clients_secret, policies=None if is_same else {place.scope: policy})


def find_misfit(place: Place, policy: ClientPolicy | None) -> str:
    """Return why the listener can't have this policy, and what to do; "" if it can."""
    if policy is not None and not place.clients_secret:
        return (
            "the settings give it no clients_secret, so Certorbit can't let it check client certificates. Give Envoy's"
            " listener a validation_context_sds_secret_config and the settings its name, or set client_certificate_mode"
            " to off"
        )
    if policy is None and place.demands_certificates:
        return (
            "it demands a client certificate (require_client_certificate), so it can't go without a check. Set the"
            " server groups' client_certificate_mode to on, or require_client_certificate to false in Envoy's"
            " configuration and in the settings"
        )
    if policy is None or (policy.mode is ClientCertificateMode.ON) == place.demands_certificates:
        return ""
    if place.demands_certificates:
        return (
            "it demands a client certificate (require_client_certificate), which mode optional doesn't. Set"
            " client_certificate_mode to on, or require_client_certificate to false in Envoy's configuration and in the"
            " settings"
        )
    return (
        "it lets clients in without a certificate, which mode on doesn't. Set require_client_certificate to true in"
        " Envoy's configuration and in the settings, or client_certificate_mode to optional"
    )


def find_misfits(places: Iterable[Place], state: ShelfState) -> Mapping[Place, str]:
    """Return the listeners whose policy doesn't fit what the settings say by now, each with the reason."""
    kept = {place: state.policies[place.scope] for place in places if place.scope in state.policies}
    return {place: misfit for place, policy in kept.items() if (misfit := find_misfit(place, policy))}


def find_unchecked(places: Iterable[Place], state: ShelfState, outlet: Outlet) -> Sequence[Finding]:
    """Return what keeps listeners from checking the clients that they were told to check."""
    told = [place for place in places if place.scope in state.policies]
    misfits = [
        Finding("clients", Grade.FAILED, f"{place.key} was told to check clients, but {misfit}.")
        for place, misfit in find_misfits(told, state).items()
    ]
    open_doors = [
        Finding(
            "clients",
            Grade.FAILED,
            f"{proxy} serves {place.key} and doesn't ask for {place.clients_secret!r}, so it checks nobody there; see"
            f" its validation_context_sds_secret_config ({_PAGE}).",
        )
        for place in told
        if place.clients_secret
        for proxy in outlet.find_unchecking(place.clients_secret, beside=place.secrets)
    ]
    return [*misfits, *open_doors]
