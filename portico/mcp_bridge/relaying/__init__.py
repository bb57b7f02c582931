"""Relaying: an MCP server somewhere over HTTP, for a client that speaks over standard input and output."""
