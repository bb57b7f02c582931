"""Who asked for it is told of a run's end, by a signed request to an address of theirs: https://www.standardwebhooks.com."""
