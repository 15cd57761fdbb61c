"""A real nginx on loopback with our include files."""

import asyncio
import subprocess
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from certorbit.ports.target import Target
from certorbit.target_settings.nginx import NginxTargetSettings
from certorbit.targets.nginx import make
from certorbit.targets.nginx.reload import find_workers
from make import make_chain
from programs import require_program
from targets.file_parts import free_port, make_parts, wait_until

FALLBACK_NAME = "fallback.example.net"


class RealNginx:
    """nginx with one `server` per port. `extra` is a file in its `http` block that tests may break.

    checks_clients: the listeners may be told to check clients, and each has two `server` blocks.

    Its folder is not pytest's: workers run as nobody, and may not enter that one.
    """

    def __init__(
        self, stack: AsyncExitStack, *, sni: bool = True, listeners: int = 2, checks_clients: bool = False
    ) -> None:
        self.program = require_program("nginx")
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="certorbit-nginx-")))
        folder.chmod(0o755)
        self.folder = folder
        self.conf = folder / "nginx.conf"
        self.extra = folder / "extra.conf"
        self.ports = [free_port() for _ in range(listeners)]
        self.sni = sni
        self.checks_clients = checks_clients

    def settings(self, **changes: Any) -> NginxTargetSettings:
        fallback = str(self.folder / "fallback.pem")
        tables = [
            {
                "name": f"https{number}",
                "port": port,
                "addresses": ("127.0.0.1",),
                "sni": self.sni,
                "fallback": fallback,
                "verifies_clients": self.checks_clients and self.sni,
            }
            for number, port in enumerate(self.ports)
        ]
        values = {
            "type": "nginx",
            "name": "web",
            "directory": str(self.folder / "certorbit"),
            "test_command": (self.program, "-t", "-c", str(self.conf)),
            "reload_command": (self.program, "-s", "reload", "-c", str(self.conf)),
            "pid_file": str(self.folder / "nginx.pid"),
            "listeners": tables,
            # The workers run as nobody, and a test's folder may belong to root alone.
            "owner": "nobody" if self.folder.owner() == "root" else "",
        }
        return NginxTargetSettings.model_validate({**values, **changes})

    async def start(self, stack: AsyncExitStack) -> Target:
        """Write the configuration, let the target write its first include files, and run nginx until the stack ends."""
        chain = make_chain(names=[FALLBACK_NAME], key="ecdsa-p256", key_index=90)
        (self.folder / "fallback.pem").write_text(chain.chain_pem + chain.private_key.reveal())
        self.extra.write_text("# nothing\n")
        self.conf.write_text(self._configuration())
        target = make(self.settings(), make_parts())
        await target.check()
        process = await asyncio.create_subprocess_exec(
            self.program, "-c", str(self.conf), "-g", "daemon off;", stderr=subprocess.DEVNULL
        )
        stack.push_async_callback(_stop, process)
        await wait_until(lambda: bool(find_workers(str(self.folder / "nginx.pid"))), what="nginx serves")
        return target

    def words(self) -> str:
        return (self.folder / "error.log").read_text()

    def _configuration(self) -> str:
        folder, block = self.folder, []
        for number, port in enumerate(self.ports):
            name = f"https{number}-{port}"
            if self.sni:
                variable = f"$certorbit_https{number}_{port}"
                certificate = f"ssl_certificate {variable}; ssl_certificate_key {variable};"
            else:
                certificate = f"include {folder}/certorbit/{name}.server;"
            if self.checks_clients and self.sni:
                certificate += f" include {folder}/certorbit/{name}.clients;"
            names = ["www.example.com", "other.example.com"] if self.checks_clients else ["_"]
            block += [
                f'server {{ listen 127.0.0.1:{port} ssl; server_name {each}; {certificate} return 200 "ok"; }}'
                for each in names
            ]
        includes = f"include {folder}/certorbit/*.conf;" if self.sni else ""
        temporary = "\n".join(
            f"{kind}_temp_path {folder}/temporary-{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return (
            f"pid {folder}/nginx.pid; error_log {folder}/error.log notice; worker_processes 2;\n"
            "events { worker_connections 512; }\n"
            f"http {{ access_log off;\n{temporary}\ninclude {self.extra};\n{includes}\n" + "\n".join(block) + "\n}\n"
        )


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
