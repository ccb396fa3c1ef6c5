"""What runs in the model processes."""
