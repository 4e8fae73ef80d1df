"""How fast and how small: `make bench` measures the bridge beside the bare Kafka client, in one run."""
