"""Is the suite strong? Each defence of the design can be switched off here, and then a test must fail."""
