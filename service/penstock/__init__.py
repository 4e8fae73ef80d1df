"""Penstock: Kafka in, OpenAI Batch API through, Kafka out, exactly once."""

__version__ = "0.1.0"
