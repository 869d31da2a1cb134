"""``python -m kalmandp`` is ``kalmandp``."""

import sys

from kalmandp.cli import main

if __name__ == "__main__":
    sys.exit(main())
