"""`python -m model_api <verb>`: the authors' commands."""

import sys

from model_api.publishing.commands.main import main

sys.exit(main())
