"""Traces of what passes through a gateway, for OpenTelemetry."""
