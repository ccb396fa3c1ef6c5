"""Making safetensors of other weights."""
