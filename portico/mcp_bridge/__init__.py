"""The MCP face, both ways: agents served as tools, and external servers as tools for agents."""
