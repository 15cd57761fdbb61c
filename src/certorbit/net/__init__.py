"""All that leaves the machine: the guard and the fetcher."""
