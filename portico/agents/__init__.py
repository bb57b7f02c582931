"""Kinds of process that do an agent's work."""
