"""The records the Python clients write, and the judge of what they read back.

Record `i` of a topic is fixed by `i` alone: its partition, key, value, headers and timestamp. So a reader needs no
list from the writer to know exactly what must be there.
"""

import argparse
import sys
import time

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
# Text that compresses about as well as JSON does.
TEXT = b'{"symbol":"CRLN","side":"buy","price":"101.25","quantity":300,"venue":"XETR","note":"partial fill"}' * 3
# A header on every so many records.
HEADER_EVERY = 10


def arguments(description, actions):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("action", choices=actions)
    parser.add_argument("--bootstrap", required=True, help="host:port of the broker")
    parser.add_argument("--prefix", required=True, help="topics are PREFIX-CODEC")
    parser.add_argument("--codecs", default=",".join(CODECS), help="comma-separated")
    parser.add_argument("--count", type=int, default=100_000, help="records per topic")
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--base-ms", type=int, required=True, help="timestamp of record 0")
    parser.add_argument("--acks", default="all", choices=("all", "1"), help="for `endless`")
    parser.add_argument("--enough", type=int, default=0, help="`endless` says `enough` after so many acknowledgements")
    options = parser.parse_args()
    options.codecs = options.codecs.split(",")
    return options


def topic_of(options, codec):
    return f"{options.prefix}-{codec}"


def key_of(i):
    return b"%d" % i


def value_of(i):
    start = i % 89
    return b"%d|%b" % (i, TEXT[start : start + (i * 37) % 180])


def headers_of(i):
    return [("index", b"%d" % i), ("empty", b"")] if i % HEADER_EVERY == 0 else []


def progress(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Judge:
    """Takes what a reader got, in the order it got it, and dies at the first record that should not be there."""

    def __init__(self, topic, count, partitions, base_ms):
        self.topic, self.count, self.partitions, self.base_ms = topic, count, partitions, base_ms
        self.next = [0] * partitions

    def take(self, partition, offset, key, value, headers, timestamp):
        expected_offset = self.next[partition]
        i = expected_offset * self.partitions + partition
        where = f"{self.topic}-{partition} offset {offset}"
        assert offset == expected_offset, f"{where}: the offset after {expected_offset - 1} should be {expected_offset}"
        assert i < self.count, f"{where}: nobody wrote a record here, it holds {value!r}"
        assert key == key_of(i), f"{where}: key {key!r} instead of {key_of(i)!r}"
        assert value == value_of(i), f"{where}: value {value!r} instead of {value_of(i)!r}"
        assert headers == headers_of(i), f"{where}: headers {headers!r} instead of {headers_of(i)!r}"
        assert timestamp == self.base_ms + i, f"{where}: timestamp {timestamp} instead of {self.base_ms + i}"
        self.next[partition] = expected_offset + 1

    def expected_end(self, partition):
        return len(range(partition, self.count, self.partitions))

    def finish(self):
        for partition, got in enumerate(self.next):
            expected = self.expected_end(partition)
            assert got == expected, f"{self.topic}-{partition}: {got} records instead of {expected}"
        progress(f"{self.topic}: exactly the {self.count} records")
