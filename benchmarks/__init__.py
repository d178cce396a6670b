"""What docs/performance.md quotes, runnable. Each prints a readable table and, as its last line, one JSON object; exit 1 when a bar is missed."""
