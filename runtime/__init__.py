"""Runtime API: accounts with mailed codes, sessions, profiles, and an agent to chat with."""

__version__ = "0.4.0"
