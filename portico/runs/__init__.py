"""The one door behind every face, and the record of what came through it."""
