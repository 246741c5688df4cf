"""What the members of consumer groups have in common, whatever library they speak by.

A member reads one topic in a group and says on stdout what happens, a JSON object a line:

assigned, revoked, lost  `partitions`: which came, which went, and which went without a chance to commit
read                     `partition`, `first`, `last`: offsets without a gap; the value of each record was its offset
committed                `offsets`: by partition, answered by the broker
uncommitted              `reason`: a commit was refused; the member goes on
left                     it has left the group, as it was told to by the end of stdin

It commits what it has read as it goes, without waiting, and waits for the answer before it gives a partition away.
"""

import argparse
import json
import sys
import threading

# Records between two commits, at most.
BATCH = 1000
# Before a partition goes. A broker may ask to commit again while a group is rebalanced.
TRIES = 5
SESSION_MS = 6000
HEARTBEAT_MS = 500
# How long a poll waits; how soon a member sees that it is to leave.
POLL_S = 0.1


def arguments(protocols):
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("bootstrap", "topic", "group", "client-id"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--protocol", required=True, choices=protocols)
    return parser.parse_args()


def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def leaving():
    """Is set when stdin ends."""
    ended = threading.Event()

    def wait():
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    return ended


class Reading:
    """What has been read: said in ranges, and committed.

    `commit(offsets)` waits for the answer and raises one of `refusals`; `commit_async(offsets)` sees to it that
    `answered(offsets, error)` is called.
    """

    def __init__(self, commit, commit_async, refusals):
        self.commit, self.commit_async, self.refusals = commit, commit_async, refusals
        self.ranges, self.count = {}, 0
        # By partition, the offset that follows what was read, was asked to be committed, and is.
        self.next, self.committed = {}, {}
        # One asynchronous commit at a time: a client that tries again could bring them out of order.
        self.waiting = False

    def take(self, partition, offset, value):
        assert value == b"%d" % offset, f"partition {partition} has {value!r} at offset {offset}"
        first, last = self.ranges.get(partition, (offset, offset - 1))
        if offset != last + 1:
            say("read", partition=partition, first=first, last=last)
            first = offset
        self.ranges[partition] = (first, offset)
        self.next[partition] = offset + 1
        self.count += 1

    def done(self):
        """Says what has been read, and has it committed."""
        self.say()
        offsets = {p: offset for p, offset in self.next.items() if self.committed.get(p) != offset}
        if offsets and not self.waiting:
            self.waiting = True
            self.commit_async(offsets)

    def say(self):
        for partition, (first, last) in self.ranges.items():
            say("read", partition=partition, first=first, last=last)
        self.ranges, self.count = {}, 0

    def answered(self, offsets, error):
        self.waiting = False
        if error is None:
            say("committed", offsets=offsets)
            # An answer may come when the partition has gone, and come again.
            self.committed.update({p: offset for p, offset in offsets.items() if p in self.next})
        else:
            say("uncommitted", reason=str(error))

    def give_up(self, partitions):
        """Commits before the partitions go; nobody may hear any more of what is on its way."""
        self.say()
        offsets = {p: self.next[p] for p in partitions if p in self.next and self.committed.get(p) != self.next[p]}
        for _ in range(TRIES if offsets else 0):
            try:
                self.commit(offsets)
            except self.refusals as error:
                say("uncommitted", reason=str(error))
                continue
            say("committed", offsets=offsets)
            break
        self.lose(partitions)

    def lose(self, partitions):
        """They are gone."""
        self.say()
        for partition in partitions:
            for known in (self.next, self.committed):
                known.pop(partition, None)
