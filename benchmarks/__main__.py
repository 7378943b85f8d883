"""`python -m benchmarks NAME`: what `sonant bench NAME` runs, where the console command is not installed."""

import sys

from sonant.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
