"""SQLAlchemy and Alembic, nowhere else."""
