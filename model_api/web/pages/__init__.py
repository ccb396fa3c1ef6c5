"""Pages for people, each with its template."""
