"""What the provider can answer and what can run full or go away: each is a row, and each row has a test."""
