"""A SQL database: SQLite here, PostgreSQL, MySQL or MariaDB elsewhere. What is in it, the floors above know."""
