"""``python -m semacdr``."""

import sys

from semacdr.cli import main

sys.exit(main())
