"""What an agent can be asked, and how that is written down. Knows no face."""
