"""SQLAlchemy and Alembic, nowhere else."""

from certorbit.storage.engine import make_engine, name_of_url
from certorbit.storage.migrate import check_schema, find_schema, migrate
from certorbit.storage.store import SQLStore
from certorbit.storage.turns import Turns

__all__ = ["SQLStore", "Turns", "check_schema", "find_schema", "make_engine", "migrate", "name_of_url"]
