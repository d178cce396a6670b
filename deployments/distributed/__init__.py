"""A Prefect server in several parts: what each of them is given, and what they may do only one after another."""
