"""A parser fuzz: messages by chance, from almost right to hopeless, judged by another reading of the contract."""
