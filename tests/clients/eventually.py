"""A broker may answer a change before its own copy of the metadata has followed; Kafka does."""

import time

PATIENCE = 30


def eventually(look, wanted):
    """Looks again until it sees what is wanted. Each look waits for the broker, so this does not spin."""
    deadline = time.monotonic() + PATIENCE
    while (seen := look()) != wanted:
        assert time.monotonic() < deadline, f"still {seen}, not {wanted}"
