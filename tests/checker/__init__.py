"""Judges a run of the service from outside: what went in, what came out, and what the provider was made to do.

It imports nothing of the service. Its only knowledge of it is the published contract: headers and shapes of values.
"""
