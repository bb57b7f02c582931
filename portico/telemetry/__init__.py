"""Traces of what passes through a gateway, for OpenTelemetry, and figures about it, for Prometheus."""
