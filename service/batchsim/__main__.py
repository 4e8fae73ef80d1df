"""`python -m batchsim`."""

from batchsim.cli import app

app(prog_name="batchsim")
