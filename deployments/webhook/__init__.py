"""The receiver of GitHub's events: the only part of nightshift that the internet may reach. How to set it up: docs/webhook.md."""
