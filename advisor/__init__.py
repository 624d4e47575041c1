"""Rules and remedies: pure functions of the window. Empty until the first rule lands."""
