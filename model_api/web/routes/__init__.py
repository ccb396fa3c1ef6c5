"""This project's own interface, a module per noun."""
