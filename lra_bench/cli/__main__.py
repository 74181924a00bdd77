"""``python -m lra_bench.cli``, where the console script is not on the path."""

import sys

from lra_bench.cli.main import main

sys.exit(main())
