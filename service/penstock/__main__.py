"""`python -m penstock`."""

from penstock.cli.app import app

app()
