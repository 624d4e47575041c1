"""`python -m torchtop`."""

from torchtop.cli import main

if __name__ == "__main__":
    main()
