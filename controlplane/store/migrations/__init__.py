"""How the tables came to be: Alembic's revisions, run by `database.migrate` at every start."""
