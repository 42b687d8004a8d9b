"""`python -m vlaeval_hpc`."""

import sys

from vlaeval_hpc.cli import main

if __name__ == "__main__":
    sys.exit(main())
