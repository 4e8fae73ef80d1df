"""The pure core: what is true of requests, windows, batches and results. No I/O; clocks are passed in."""
