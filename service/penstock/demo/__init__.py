"""The whole system on one machine: real Kafka, real Postgres, a simulated provider, thousands of real requests."""
