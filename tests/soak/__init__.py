"""A soak: three replicas under steady traffic, while everything around them fails again and again.

`python -m tests.soak --minutes 30 [--seed S]`. The schedule of what fails is drawn from the seed.
"""
