"""Find a running job, check that attaching is allowed, put the probe into it, talk to it."""
