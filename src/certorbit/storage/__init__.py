"""SQLAlchemy and Alembic, nowhere else."""

from certorbit.storage.engine import make_engine
from certorbit.storage.migrate import check_schema, migrate
from certorbit.storage.store import SQLStore
from certorbit.storage.turns import Turns

__all__ = ["SQLStore", "Turns", "check_schema", "make_engine", "migrate"]
