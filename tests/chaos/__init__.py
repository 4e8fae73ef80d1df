"""Every failpoint struck in every way, on real servers, with the checker as judge; run `python -m tests.chaos`."""
