"""`scripts/convert`: weights in formats that may run code, or that nothing here reads, become safetensors."""
