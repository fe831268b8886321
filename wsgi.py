"""What gunicorn and the `flask` command load."""

import sys

from app import create_app
from runtime.config import ConfigError

try:
    app = create_app()
except ConfigError as error:
    print(error, file=sys.stderr)
    # A worker that exits with 3 stops gunicorn, which starts another after any other code.
    sys.exit(3)
