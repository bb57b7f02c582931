"""Agents as an MCP server, over streamable HTTP and over stdio, in both protocol eras."""
