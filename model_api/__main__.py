"""`python -m model_api <verb>`: the authors' commands."""

import sys

from model_api.commands import main

sys.exit(main())
