"""SQLAlchemy and Alembic, nowhere else."""

from certorbit.storage.engine import make_engine
from certorbit.storage.migrate import check_schema, migrate
from certorbit.storage.store import SQLStore

__all__ = ["SQLStore", "check_schema", "make_engine", "migrate"]
