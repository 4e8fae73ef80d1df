"""Kafka: connections, topics and their ids, the request consumer, the result producer, the ledger."""
