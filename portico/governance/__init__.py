"""Policies around calls, one per file; each works without the gateway."""
