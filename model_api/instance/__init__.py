"""What this instance loads."""
