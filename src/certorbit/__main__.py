"""`python -m certorbit`."""

from certorbit.cli.main import app

app()
