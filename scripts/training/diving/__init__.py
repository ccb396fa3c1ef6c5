"""How the project's own `diving` model is made: drawn dives with known faults, and what is no dive."""
