"""How the project's own `sentiment` model is made. Runs where an author or `scripts/serve` trains, never in serving."""
