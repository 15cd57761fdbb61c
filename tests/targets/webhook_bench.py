"""A webhook for the contract suite, with the receiver that is a stand-in for an operator's."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from certorbit.model.balancer import ListenerKey
from certorbit.target_settings.webhook import WebhookTargetSettings
from certorbit.targets.webhook import make
from targets.file_parts import key_of, make_parts
from targets.target_bench import TargetBench
from targets.webhook_receiver import Held, Receiver

SECRET = "a-secret-of-the-tests"
PLACES = [("edge", 443), ("mail", 993)]


def make_receiver() -> Receiver:
    return Receiver(secret=SECRET, target="hook", listeners={place: Held() for place in PLACES})


def make_settings(url: str, **changes: Any) -> WebhookTargetSettings:
    values = {
        "type": "webhook",
        "name": "hook",
        "url": url,
        "secret": SECRET,
        "host": "127.0.0.1",
        "listeners": [{"name": name, "port": port} for name, port in PLACES],
    }
    return WebhookTargetSettings.model_validate({**values, **changes})


async def open_bench(folder: Path, stack: AsyncExitStack) -> TargetBench:
    receiver = make_receiver()
    await receiver.start(stack)

    async def served(listener: ListenerKey, name: str) -> str:
        return receiver.served((listener.listener, listener.port), name)

    return TargetBench(
        target=make(make_settings(receiver.url), make_parts()),
        listener=key_of("hook", *PLACES[0]),
        other=key_of("hook", *PLACES[1]),
        served=served,
    )
