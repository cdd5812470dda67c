"""``python -m eomt_ext_ros.node``: the node as a program."""

import sys

from eomt_ext_ros.node import main

sys.exit(main())
