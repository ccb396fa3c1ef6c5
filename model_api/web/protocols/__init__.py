"""Other people's interfaces: what their clients, unmodified, send and read."""
