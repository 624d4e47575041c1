"""Numbers, bars, curves and sentences in columns of a terminal."""
