"""How a thread has something called on a worker's loop."""

from gunicorn.workers.gthread import PollableMethodQueue


class MethodQueue(PollableMethodQueue):
    """gunicorn's way to call something on the loop from a thread."""

    def close(self):
        """Stay open: threads outlive the loop. They would write to another file that has the
        number by then, such as a connection to the mail server.
        """
