"""Penstock: Kafka in, OpenAI Batch API through, Kafka out, exactly once."""
