"""What takes minutes by its nature: `make long`."""
