#!/usr/bin/env python
"""The command line from a checkout: the same as the command `rgal` of an installation."""

import sys

from rgal.cli import main

if __name__ == "__main__":
    sys.exit(main())
