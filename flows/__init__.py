"""One module per runbook; each reads from top to bottom like the runbook that it automates."""
