"""The stages, one file each: intake, sealer, submitter, poller, collector, publisher, janitor."""
