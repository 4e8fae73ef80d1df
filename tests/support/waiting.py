"""What tests wait for and never get."""


class NeverCame(AssertionError):
    """What should have come by now has not: a failure of what is tested, not of the harness."""
