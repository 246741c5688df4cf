//! What happened, folded into 64 bits, and as text on request.

/// What a simulation records.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub(super) enum Kind {
    /// A task was polled: task number.
    Poll = 1,
    /// A task began: task number, shard.
    Spawn,
    /// A timer or delayed event fired: its number.
    Fire,
    /// A disk operation began: operation, inode, position.
    Submit,
    /// A disk operation ended: operation.
    Complete,
    /// A fault was injected: operation.
    Fault,
    /// A mesh message was sent or arrived: from, to.
    MeshSend,
    MeshReceive,
    /// Sockets: connection, bytes.
    Connect,
    Send,
    Deliver,
    Receive,
    Close,
    /// The wall clock jumped: new offset.
    WallJump,
    /// The machine lost power or the process was killed.
    Crash,
}

pub(super) struct Trace {
    hash: u64,
    /// Every step goes to stderr as well.
    text: bool,
}

impl Trace {
    pub fn new(seed: u64, text: bool) -> Trace {
        Trace { hash: seed, text }
    }

    pub fn record(&mut self, now: u64, kind: Kind, what: [u64; 3]) {
        let fold = |hash: u64, value: u64| (hash.rotate_left(5) ^ value).wrapping_mul(0x517C_C1B7_2722_0A95);
        let hash = fold(fold(self.hash, now), kind as u64);
        self.hash = fold(fold(fold(hash, what[0]), what[1]), what[2]);
        if self.text {
            eprintln!("{:>14.3} µs  {kind:?} {} {} {}", now as f64 / 1e3, what[0], what[1], what[2]);
        }
    }

    /// A line that explains the one before; not part of the hash.
    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if self.text {
            eprintln!("{:>18}  {}", "", text());
        }
    }

    pub fn hash(&self) -> u64 {
        self.hash ^ (self.hash >> 32)
    }
}
