"""A proxy without a proxy: Envoy's own messages (PyPI `xds-protos`) over a real gRPC channel."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import grpc
import grpc.aio
from envoy.config.core.v3 import base_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.discovery.v3 import discovery_pb2
from envoy.service.secret.v3 import sds_pb2_grpc
from google.rpc import status_pb2

SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
SECONDS = 10.0


class SDSClient:
    """One stream, state of the world or delta; `receive` gives the next answer."""

    def __init__(self, call: Any, *, node: str, is_delta: bool) -> None:
        self._call = call
        self._node = base_pb2.Node(id=node)
        self._message = discovery_pb2.DeltaDiscoveryRequest if is_delta else discovery_pb2.DiscoveryRequest

    async def send(self, **fields: Any) -> None:
        await self._call.write(self._message(node=self._node, type_url=fields.pop("type_url", SECRET), **fields))
        self._node = None  # Envoy says who it is in the first message only

    async def receive(self) -> Any:
        async with asyncio.timeout(SECONDS):
            answer = await self._call.read()
        assert answer is not grpc.aio.EOF, await self._call.code()
        return answer

    async def accept(self, answer: Any, **fields: Any) -> None:
        await self.send(response_nonce=answer.nonce, **fields)

    async def refuse(self, answer: Any, words: str, **fields: Any) -> None:
        await self.send(response_nonce=answer.nonce, error_detail=status_pb2.Status(code=13, message=words), **fields)

    async def code(self) -> grpc.StatusCode:
        async with asyncio.timeout(SECONDS):
            return await self._call.code()


async def open_client(stack: AsyncExitStack, address: str, *, node: str = "test", is_delta: bool = False) -> SDSClient:
    channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
    stub = sds_pb2_grpc.SecretDiscoveryServiceStub(channel)
    call = stub.DeltaSecrets() if is_delta else stub.StreamSecrets()
    stack.callback(call.cancel)
    return SDSClient(call, node=node, is_delta=is_delta)


def leaf_of(packed: Any) -> tuple[str, str, str]:
    """Return name, chain and key of a packed secret."""
    secret = secret_pb2.Secret()
    assert packed.Unpack(secret)
    certificate = secret.tls_certificate
    return (
        secret.name,
        certificate.certificate_chain.inline_bytes.decode(),
        certificate.private_key.inline_bytes.decode(),
    )


def validation_of(packed: Any) -> Any:
    """Return the validation context of a packed secret."""
    secret = secret_pb2.Secret()
    assert packed.Unpack(secret)
    assert secret.WhichOneof("type") == "validation_context"
    return secret.validation_context
