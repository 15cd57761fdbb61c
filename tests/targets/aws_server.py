"""AWS for tests: moto's server, with the rules of AWS in front that moto doesn't keep, and faults on demand.

moto answers everything but what is listed here. A stand-in for AWS where moto deviates:

- ACM: DeleteCertificate refuses what is in use; an import in place keeps the tags and takes none, and refuses another
  key type; ListCertificates has pages.
- ELBv2: the limit of 25 doesn't count the default certificate, adding twice adds once, ModifyListener keeps the SNI
  list (moto empties it) and works for NLB's TLS listeners, the default certificate isn't removed.
- CloudFront: a changed distribution is InProgress again, as long as moto's state manager says.
- IAM: SimulatePrincipalPolicy (moto has none).

Trust stores are a stand-in of their own: aws_trust_stores.py.
"""

import base64
import json
import re
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from io import BytesIO
from threading import Lock, Thread
from typing import Any, NoReturn
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from cryptography.x509 import load_pem_x509_certificate
from moto.acm.models import acm_backends
from moto.cloudfront.models import cloudfront_backends
from moto.core import DEFAULT_ACCOUNT_ID
from moto.elb.models import elb_backends
from moto.elbv2.models import elbv2_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server

from certorbit.pki.public_key import name_key_algorithm

MOST_SNI = 25
StartResponse = Callable[..., Any]
Answer = tuple[str, list[tuple[str, str]], bytes]
Environ = dict[str, Any]
_SCOPE = re.compile(r"Credential=[^/]+/\d+/([a-z0-9-]+)/")
_CLOUDFRONT = re.compile(r"/2020-05-31/distribution(?:/([A-Z0-9]+)(/config)?)?/?\Z")


class QuietHandler(MotoRequestHandler):
    def log_request(self, *_: object) -> None:
        """Print nothing."""


class Dropped(ConnectionResetError):
    """The client gets no answer; werkzeug lets it pass."""


@dataclass
class Fault:
    """What happens to the next `times` requests of an action.

    code: the answer's error code; "": the connection is closed without an answer.
    is_carried_out: whether a request that gets no answer is carried out all the same.
    """

    action: str
    code: str = ""
    status: int = 400
    times: int = 1
    message: str = "as the test wants it"
    is_carried_out: bool = True

    def check(self) -> None:
        if self.code:
            raise Refusal(self.code, self.message, self.status)


@dataclass(frozen=True)
class Asked:
    action: str
    region: str
    account: str
    is_json: bool = False
    json: dict[str, Any] = field(default_factory=dict)
    form: dict[str, list[str]] = field(default_factory=dict)

    def field(self, name: str) -> str:
        return self.form.get(name, [""])[0]


class Refusal(Exception):
    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(code)
        self.code, self.message, self.status = code, message, status


class AWSServer:
    """calls: the actions asked for, in order. denied: what IAM's simulator denies. page_size: of ListCertificates.

    calls_left: how many requests are carried out until nobody answers any more: what a process that dies then leaves
    behind. None: all. rules: who answers an action instead of moto.
    """

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._lock = Lock()
        self.calls: list[str] = []
        self.faults: list[Fault] = []
        self.denied: set[str] = set()
        self.page_size = 1000
        self.calls_left: int | None = None
        self.rules: dict[str, Callable[[Asked, Environ], Answer]] = {
            "acm:DeleteCertificate": self._delete_certificate,
            "acm:ImportCertificate": self._import_certificate,
            "acm:ListCertificates": self._list_certificates,
            "elbv2:AddListenerCertificates": self._change_list,
            "elbv2:RemoveListenerCertificates": self._change_list,
            "elbv2:ModifyListener": self.modify,
            "cloudfront:UpdateDistribution": self._update_distribution,
            "iam:SimulatePrincipalPolicy": self._simulate,
        }
        self._server: BaseWSGIServer = make_server("127.0.0.1", 0, self, threaded=True, request_handler=QuietHandler)
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def count(self, action: str) -> int:
        return self.calls.count(action)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(body)
        asked = _read(environ, body)
        with self._lock:  # moto's state is shared by all of its threads, and read here
            if self.calls_left is not None:
                if self.calls_left == 0:
                    self._drop(environ)
                self.calls_left -= 1
            self.calls.append(asked.action)
            fault = self._take_fault(asked.action)
            try:
                if fault is not None:
                    fault.check()
                if fault is None or fault.is_carried_out:
                    status, headers, content = self._answer(asked, environ)
            except Refusal as refusal:
                status, headers, content = _refuse(refusal, is_json=asked.is_json)
        if fault is not None and not fault.code:
            self._drop(environ)
        headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
        start_response(status, [*headers, ("Content-Length", str(len(content)))])
        return [content]

    @staticmethod
    def _drop(environ: Environ) -> NoReturn:
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise Dropped

    def _take_fault(self, action: str) -> Fault | None:
        for fault in self.faults:
            if fault.action == action and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    def _answer(self, asked: Asked, environ: dict[str, Any]) -> Answer:
        rule = self.rules.get(asked.action)
        return rule(asked, environ) if rule else self.ask_moto(environ)

    def ask_moto(self, environ: dict[str, Any]) -> Answer:
        kept: list[Any] = []
        content = b"".join(self._moto(environ, lambda status, headers, _=None: kept.extend((status, headers))))
        return kept[0], kept[1], content

    def is_used(self, arn: str, asked: Asked) -> bool:
        alb = elbv2_backends[asked.account][asked.region].load_balancers.values()
        held = [arns for balancer in alb for arns in (one.certificates for one in balancer.listeners.values())]
        classic = elb_backends[asked.account][asked.region].load_balancers.values()
        held += [[one.ssl_certificate_id for one in balancer.listeners] for balancer in classic]
        distributions = cloudfront_backends[asked.account]["aws"].distributions.values()
        held += [[one.distribution_config.ViewerCertificate.acm_certificate_arn] for one in distributions]
        return any(arn in arns for arns in held)

    def _delete_certificate(self, asked: Asked, environ: dict[str, Any]) -> Answer:
        if self.is_used(asked.json["CertificateArn"], asked):
            raise Refusal("ResourceInUseException", "Certificate is in use.")
        return self.ask_moto(environ)

    def _import_certificate(self, asked: Asked, environ: dict[str, Any]) -> Answer:
        if "CertificateArn" not in asked.json:
            return self.ask_moto(environ)
        if asked.json.get("Tags"):
            raise Refusal("ValidationException", "Tagging is not permitted on re-import.")
        certificates = acm_backends[asked.account][asked.region]._certificates
        old = certificates.get(asked.json["CertificateArn"])
        if old is not None:
            new = load_pem_x509_certificate(base64.b64decode(asked.json["Certificate"]))
            if name_key_algorithm(new.public_key()) != name_key_algorithm(old._cert.public_key()):
                raise Refusal("ValidationException", "Provided certificate has another key type.")
        answer = self.ask_moto(environ)
        if old is not None:
            certificates[old.arn].tags.update(old.tags)
        return answer

    def _list_certificates(self, asked: Asked, environ: dict[str, Any]) -> Answer:
        status, headers, content = self.ask_moto(environ)
        found = json.loads(content)["CertificateSummaryList"]
        start = int(asked.json.get("NextToken", 0))
        page: dict[str, Any] = {"CertificateSummaryList": found[start : start + self.page_size]}
        if start + self.page_size < len(found):
            page["NextToken"] = str(start + self.page_size)
        return status, headers, json.dumps(page).encode()

    def listener(self, asked: Asked) -> Any:
        arn = asked.field("ListenerArn")
        for balancer in elbv2_backends[asked.account][asked.region].load_balancers.values():
            if arn in balancer.listeners:
                return balancer.listeners[arn]
        raise Refusal("ListenerNotFound", f"Listener {arn} not found")

    def _change_list(self, asked: Asked, _environ: dict[str, Any]) -> Answer:
        """The first one in moto's list is the default certificate, the rest is the SNI list."""
        listener = self.listener(asked)
        arn = asked.field("Certificates.member.1.CertificateArn")
        if "Certificates.member.2.CertificateArn" in asked.form:
            raise Refusal("ValidationError", "One certificate per call.")
        if asked.action.endswith("RemoveListenerCertificates"):
            if arn == listener.certificates[0]:
                raise Refusal("OperationNotPermitted", "Default certificate cannot be removed")
            listener.certificates = [one for one in listener.certificates if one != arn]
            return answer_xml("<RemoveListenerCertificatesResult/>", "RemoveListenerCertificates")
        if arn not in acm_backends[asked.account][asked.region]._certificates:
            raise Refusal("CertificateNotFound", f"Certificate {arn} not found")
        if arn not in listener.certificates[1:]:
            if len(listener.certificates) - 1 >= MOST_SNI:
                raise Refusal("TooManyCertificates", "The maximum number of certificates has been reached.")
            listener.certificates.append(arn)
        member = f"<member><CertificateArn>{arn}</CertificateArn></member>"
        result = f"<AddListenerCertificatesResult><Certificates>{member}</Certificates></AddListenerCertificatesResult>"
        return answer_xml(result, "AddListenerCertificates")

    def modify(self, asked: Asked, environ: dict[str, Any]) -> Answer:
        listener = self.listener(asked)
        others = listener.certificates[1:]
        arn = asked.field("Certificates.member.1.CertificateArn")
        if arn and arn not in acm_backends[asked.account][asked.region]._certificates:
            raise Refusal("CertificateNotFound", f"Certificate {arn} not found")
        answer = self.ask_moto(environ)
        if arn and answer[0].startswith("200"):
            listener.certificate = arn
            listener.certificates = [arn, *others]
        return answer

    def _update_distribution(self, asked: Asked, environ: dict[str, Any]) -> Answer:
        answer = self.ask_moto(environ)
        place = _CLOUDFRONT.match(environ["PATH_INFO"])
        if place and answer[0].startswith("200"):
            distribution = cloudfront_backends[asked.account]["aws"].distributions[place[1]]
            distribution.status, distribution._tick = "InProgress", 0
        return answer

    def _simulate(self, asked: Asked, _environ: dict[str, Any]) -> Answer:
        actions = [asked.field(name) for name in asked.form if name.startswith("ActionNames.member.")]
        members = "".join(
            f"<member><EvalActionName>{action}</EvalActionName><EvalDecision>"
            f"{'implicitDeny' if action in self.denied else 'allowed'}</EvalDecision></member>"
            for action in actions
        )
        result = f"<SimulatePrincipalPolicyResult><EvaluationResults>{members}</EvaluationResults>"
        return answer_xml(result + "</SimulatePrincipalPolicyResult>", "SimulatePrincipalPolicy")


def _read(environ: dict[str, Any], body: bytes) -> Asked:
    scope = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
    region = scope[1] if scope else "us-east-1"
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if target:
        service = "acm" if target.startswith("CertificateManager") else "tag"
        action = f"{service}:{target.rpartition('.')[2]}"
        return Asked(action, region, DEFAULT_ACCOUNT_ID, is_json=True, json=json.loads(body))
    place = _CLOUDFRONT.match(environ["PATH_INFO"])
    if place:
        name = {("GET", None): "GetDistribution", ("GET", "/config"): "GetDistributionConfig"}.get(
            (environ["REQUEST_METHOD"], place[2]), f"{environ['REQUEST_METHOD'].title()}Distribution"
        )
        name = {"PutDistribution": "UpdateDistribution"}.get(name, name) if place[1] else "ListDistributions"
        return Asked(f"cloudfront:{name}", region, DEFAULT_ACCOUNT_ID)
    if "/s3/aws4_request" in environ.get("HTTP_AUTHORIZATION", ""):
        is_object = "/" in environ["PATH_INFO"].strip("/")
        action = f"s3:{environ['REQUEST_METHOD'].title()}{'Object' if is_object else 'Bucket'}"
        return Asked(action, region, DEFAULT_ACCOUNT_ID)
    form = parse_qs(body.decode(errors="replace"), keep_blank_values=True)
    versions = {"2015-12-01": "elbv2", "2012-06-01": "elb", "2010-05-08": "iam", "2011-06-15": "sts"}
    service = versions.get(form.get("Version", [""])[0], "other")
    return Asked(f"{service}:{form.get('Action', [''])[0]}", region, DEFAULT_ACCOUNT_ID, form=form)


def answer_xml(result: str, action: str) -> Answer:
    text = f"<{action}Response>{result}<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></{action}Response>"
    return "200 OK", [("Content-Type", "text/xml")], text.encode()


def _refuse(refusal: Refusal, *, is_json: bool) -> Answer:
    status = f"{refusal.status} Refused"
    if is_json:
        text = json.dumps({"__type": refusal.code, "message": refusal.message})
        return status, [("Content-Type", "application/x-amz-json-1.1")], text.encode()
    error = f"<Error><Code>{refusal.code}</Code><Message>{escape(refusal.message)}</Message></Error>"
    return status, [("Content-Type", "text/xml")], f"<ErrorResponse>{error}</ErrorResponse>".encode()
