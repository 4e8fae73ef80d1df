"""Penstock: Kafka in, OpenAI Batch API through, Kafka out, exactly once."""

__version__ = "0.2.0"
