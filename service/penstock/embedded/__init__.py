"""A real Kafka and a real Postgres from Python packages alone: no container, no JVM or server on the machine."""
