"""Tasks on texts, a module each."""
