"""How long the server waits for a client, and how much it holds of what it sent."""

# A request, head and body, must be here so long after its first byte, or after its connection
# was opened: 1 MiB at 35 kB/s. A router gives up after as long itself (Heroku's H12: 30 s).
REQUEST_SECONDS = 30

# A client that takes nothing of its answer for so long is cut off: enough for a phone that
# changes cells. An answer may take any time as long as it is being read.
STALL_SECONDS = 20

# A client that was refused before it had sent everything may go on sending for so long, so that
# the refusal reaches it (RFC 9112 §9.6). nginx waits as long for the next byte.
LINGER_SECONDS = 5

# The longest body of any route, where the application does not say which takes how much. A longer
# one is handed over without being received, for the application to answer 413.
BODY_BYTES = 1024 * 1024

# All that requests may hold of a worker's memory, from their first byte until they are answered;
# beyond it the longest that is not being answered yet is refused. Small ones never are.
HELD_BYTES = 32 * 1024 * 1024

# All that answers may hold of a worker's memory. Beyond it the answer that holds most is dropped.
UNSENT_BYTES = 32 * 1024 * 1024

# If another worker has fewer connections, this one stops accepting for so long, so that the other
# can. If the other is stuck, we accept then.
YIELD_SECONDS = 0.001

# A platform kills the process 30 s after SIGTERM. Within these, requests first, mail last.
STOP_SECONDS = 25
DRAIN_SECONDS = 5
# Runs that go on until so long before the requests' time is over are ended then: a thousand of
# them have to be written to the database, and told to their readers.
INTERRUPT_SECONDS = 5
# After Ctrl-C they have this long.
QUIT_SECONDS = 1
