"""External MCP servers as supervised processes, and their tools for agents."""
