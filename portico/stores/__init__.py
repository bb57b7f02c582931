"""Where runs, states and records are kept beyond the program: one technology per file. Bytes and rows, no policy."""
