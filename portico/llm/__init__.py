"""Model calls: one technology per file."""
