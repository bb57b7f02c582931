"""The kernel: messages, processes, supervision. It stands on asyncio and the standard library alone."""
