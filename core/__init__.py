"""Names and decisions of nightshift: pure functions and records, no I/O."""
