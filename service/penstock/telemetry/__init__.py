"""What operators see, and where tests strike: metrics, logs, failpoints."""
