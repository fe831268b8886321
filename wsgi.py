"""What gunicorn and the `flask` command load."""

import sys

from app import create_app
from runtime.config.settings import ConfigError

try:
    app = create_app()
except ConfigError as error:
    print(error, file=sys.stderr)
    # gunicorn takes it for "the application does not load", and stops, whoever loaded it.
    sys.exit(3)
