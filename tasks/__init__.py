"""Steps that touch a system (PostgreSQL, S3, processes), one module per system; each wraps foreign errors into core.errors."""
