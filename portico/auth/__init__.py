"""Who calls: principals and keys, for every face."""
