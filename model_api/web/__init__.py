"""Everything HTTP, and the only place of Flask."""
