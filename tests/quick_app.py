"""`wsgi:app` whose passwords cost next to nothing, for tests of what else takes time."""

from tests.quick import QuickPasswords
from wsgi import app

app.extensions["passwords"] = QuickPasswords()
