"""Many queries, once each: plan, journal, workers, retries, events."""
