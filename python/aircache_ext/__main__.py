"""``python -m aircache_ext``: see :mod:`aircache_ext.cli`."""

import sys

from aircache_ext.cli import main

sys.exit(main())
