"""Who calls, and what they may do: principals, API keys and tokens, for every face."""
