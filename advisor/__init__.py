"""What holds a job back, from its numbers alone: pure functions of `torchtop.seen.Seen`."""
