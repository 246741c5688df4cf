"""What the programs that try transactions have in common, whatever library they speak by; one for each.

write      transactions over all partitions, every third of them aborted; readers of committed records see the others, whole
           and in order, and other readers everything
fence      a second producer of the same transactional id: the first one's transaction is aborted, and it is told
transform  a member of a group that reads --topic, writes each number to --output, and commits what it has read with that;
           every fifth transaction is aborted and done again. Prints `transaction` after each, and `done` after the last.
           Brokers may come and go, and so may it

One of them writes the numbers and judges what the others have made of them:

fill       --count numbers to a topic, outside of transactions
check      every number is in --output once, and the group has committed all of --topic
"""

import argparse

PATIENCE_S = 60
TIMEOUT_MS = 20_000
BATCH = 50
ROUNDS = 30
RECORDS = 20


def arguments(actions):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=actions)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--group", required=True, help="of readers; also the transactional id, or what that begins with")
    parser.add_argument("--output", help="topic")
    parser.add_argument("--count", type=int, default=0)
    return parser.parse_args()


def rounds(options):
    """The transactions of `write`: whether it is aborted, and what goes to which partition."""
    for number in range(ROUNDS):
        yield number % 3 == 2, [(i % options.partitions, f"{number}:{i}") for i in range(RECORDS)]


def written(options, isolation):
    """What such readers see of them, by partition."""
    values = [[] for _ in range(options.partitions)]
    for aborts, records in rounds(options):
        if not aborts or isolation == "read_uncommitted":
            for partition, value in records:
                values[partition].append(value)
    return values


def of_the_second(options):
    """What `fence` leaves, by partition."""
    return [["second"]] + [[] for _ in range(1, options.partitions)]
