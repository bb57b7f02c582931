"""The HTTP face: translates requests into calls and replies into responses, and decides nothing."""
