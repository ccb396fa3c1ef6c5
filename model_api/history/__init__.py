"""What was predicted: kept, summed up by the hour, asked for. SQLAlchemy is imported by the first who needs it."""
