"""One file for each rule. Its docstring is the only text there is of it: `torchtop rule CODE` prints it."""
