"""The table of layers: names as a tree, times, columns, order, and one layer closely."""
