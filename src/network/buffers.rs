//! The shard's receive memory: one chunk that every connection receives into, and recycled buffers for frames
//! that do not fit one receive.
//!
//! A fresh page costs 2.6-3.4 µs per 4 KiB at its first touch, more than ten times what copying into warm memory
//! costs, so memory goes round: a retired buffer is a handle without bytes, kept until every slice cut from it
//! has been dropped (on whichever shard), and then taken into use again.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;

use bytes::BytesMut;

/// What connections receive into and cut frames from.
const CHUNK_BYTES: usize = 256 * 1024;
/// A chunk with less room than this is retired.
const CHUNK_ROOM_MIN: usize = 16 * 1024;
/// Body buffers of up to this size are plain allocations of exactly the frame's size.
pub(super) const PLAIN_BODY_BYTES: usize = 64 * 1024;
/// Recycled buffers come in powers of two up to this size; a larger frame starts with one megabyte and grows as
/// its bytes arrive.
const RECYCLED_BYTES_MAX: usize = 2 * 1024 * 1024;
/// A frame this large or larger is not given its whole buffer before most of it is there.
const GROWING_BODY_START: usize = 1024 * 1024;
/// Memory kept in retired buffers, in use by frames or not.
const RETIRED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Retired buffers that are looked at for one that nobody uses any more. The oldest are first.
const RETIRED_LOOKS: usize = 4;

/// Lives on its shard in an `Rc`.
pub struct ReceiveBuffers {
    chunk: RefCell<BytesMut>,
    retired: RefCell<Retired>,
}

#[derive(Default)]
struct Retired {
    /// By class: 128 KiB, 256 KiB, … [`RECYCLED_BYTES_MAX`].
    classes: [VecDeque<BytesMut>; 5],
    bytes: usize,
}

/// A buffer for the body of one frame.
pub(super) struct Body {
    pub(super) bytes: BytesMut,
    size: usize,
    class: Option<usize>,
}

const fn class_bytes(class: usize) -> usize {
    (128 * 1024) << class
}

const _: () = assert!(class_bytes(4) == RECYCLED_BYTES_MAX);
const CHUNK_CLASS: usize = 1;
const _: () = assert!(class_bytes(CHUNK_CLASS) == CHUNK_BYTES);

impl Default for ReceiveBuffers {
    fn default() -> Self {
        ReceiveBuffers {
            chunk: RefCell::new(BytesMut::with_capacity(CHUNK_BYTES)),
            retired: RefCell::new(Retired::default()),
        }
    }
}

impl ReceiveBuffers {
    /// Runs `receive` on the shard's chunk and splits off what it received. `receive` gets a buffer to append to
    /// and the most it may append, and says how much it did; `None` when nothing was there.
    pub(super) fn receive(
        &self,
        max: usize,
        receive: impl FnOnce(&mut BytesMut, usize) -> io::Result<Option<usize>>,
    ) -> io::Result<Option<BytesMut>> {
        let mut chunk = self.chunk.borrow_mut();
        // back to the start, and to memory that is still in the cache, whenever nobody holds a slice of it
        if !chunk.try_reclaim(CHUNK_BYTES) && chunk.capacity() < CHUNK_ROOM_MIN {
            let mut retired = self.retired.borrow_mut();
            let next = retired.take(CHUNK_CLASS);
            let full = std::mem::replace(&mut *chunk, next);
            retired.put(CHUNK_CLASS, full);
        }
        let room = chunk.capacity().min(max);
        let received = receive(&mut chunk, room)?;
        Ok(received.map(|_| chunk.split()))
    }

    /// A buffer for a frame of `size` bytes that begins with `start`.
    pub(super) fn body(&self, size: usize, start: &[u8]) -> Body {
        let (mut bytes, class) = if size <= PLAIN_BODY_BYTES {
            (BytesMut::with_capacity(size), None)
        } else if size <= RECYCLED_BYTES_MAX {
            let class = (0..).find(|&class| size <= class_bytes(class)).expect("the largest class fits");
            (self.retired.borrow_mut().take(class), Some(class))
        } else {
            (BytesMut::with_capacity(GROWING_BODY_START.max(start.len())), None)
        };
        bytes.extend_from_slice(start);
        Body { bytes, size, class }
    }

    /// The complete frame; the buffer's memory returns when its last slice is dropped.
    pub(super) fn finish(&self, body: Body) -> bytes::Bytes {
        debug_assert!(body.is_complete());
        let Body { mut bytes, class, .. } = body;
        let Some(class) = class else { return bytes.freeze() };
        let frame = bytes.split().freeze();
        self.retired.borrow_mut().put(class, bytes);
        frame
    }
}

impl Retired {
    fn take(&mut self, class: usize) -> BytesMut {
        let wanted = class_bytes(class);
        let queue = &mut self.classes[class];
        for _ in 0..queue.len().min(RETIRED_LOOKS) {
            let Some(mut candidate) = queue.pop_front() else { break };
            if candidate.try_reclaim(wanted) {
                self.bytes -= wanted;
                return candidate;
            }
            queue.push_back(candidate);
        }
        BytesMut::with_capacity(wanted)
    }

    /// `handle` is empty and shares its memory with the slices cut from it.
    fn put(&mut self, class: usize, handle: BytesMut) {
        debug_assert!(handle.is_empty());
        let bytes = class_bytes(class);
        if self.bytes + bytes <= RETIRED_BYTES_MAX {
            self.bytes += bytes;
            self.classes[class].push_back(handle);
        }
    }
}

impl Body {
    /// Of the whole frame.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn is_complete(&self) -> bool {
        self.bytes.len() == self.size
    }

    /// Makes room for more, and says how much may be received now: never past the end of the frame.
    pub(super) fn room(&mut self) -> usize {
        if self.bytes.len() == self.bytes.capacity() {
            let more = self.bytes.len().min(self.size - self.bytes.len());
            self.bytes.reserve(more);
        }
        (self.size - self.bytes.len()).min(self.bytes.capacity() - self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(count: usize) -> impl FnOnce(&mut BytesMut, usize) -> io::Result<Option<usize>> {
        move |buf, max| {
            let count = count.min(max);
            buf.extend_from_slice(&vec![7; count]);
            Ok(Some(count))
        }
    }

    #[test]
    fn the_chunk_starts_over_when_nobody_holds_it_and_is_never_reused_while_somebody_does() {
        let buffers = ReceiveBuffers::default();
        let first = buffers.receive(usize::MAX, fill(1000)).unwrap().unwrap();
        let start = first.as_ptr();
        let second = buffers.receive(usize::MAX, fill(1000)).unwrap().unwrap();
        assert_eq!(second.as_ptr(), start.wrapping_add(1000), "behind what is held");
        drop((first, second));
        let third = buffers.receive(usize::MAX, fill(CHUNK_BYTES)).unwrap().unwrap();
        assert_eq!(third.as_ptr(), start);
        assert_eq!(third.len(), CHUNK_BYTES);

        let fourth = buffers.receive(usize::MAX, fill(10)).unwrap().unwrap();
        assert_ne!(fourth.as_ptr(), start, "the third still holds the first chunk");
        drop(third);
        let rest = buffers.receive(usize::MAX, fill(CHUNK_BYTES)).unwrap().unwrap();
        assert_eq!(rest.len(), CHUNK_BYTES - 10);
        let recycled = buffers.receive(usize::MAX, fill(1)).unwrap().unwrap();
        assert_eq!(recycled.as_ptr(), start, "the first chunk came back");
    }

    #[test]
    fn body_buffers_come_back() {
        let buffers = ReceiveBuffers::default();
        let size = 1_000_100;
        let make = || {
            let mut body = buffers.body(size, &[1; 100]);
            while !body.is_complete() {
                let room = body.room();
                assert!(room > 0);
                body.bytes.extend_from_slice(&vec![2; room]);
            }
            buffers.finish(body)
        };
        let first = make();
        let address = first.as_ptr();
        let second = make();
        assert_ne!(second.as_ptr(), address);
        drop(first);
        assert_eq!(make().as_ptr(), address);
        assert_eq!(second.len(), size);
        assert_eq!((second[99], second[100]), (1, 2));
    }

    #[test]
    fn a_claimed_length_allocates_as_bytes_arrive() {
        let buffers = ReceiveBuffers::default();
        let size = 100 * 1024 * 1024;
        let mut body = buffers.body(size, &[0; 10]);
        assert!(body.bytes.capacity() <= GROWING_BODY_START);
        let mut received = 10;
        while !body.is_complete() {
            let room = body.room();
            assert!(room > 0 && received + room <= size);
            assert!(body.bytes.capacity() <= (2 * received).max(GROWING_BODY_START));
            body.bytes.resize(received + room, 1);
            received += room;
        }
        assert_eq!(buffers.finish(body).len(), size);
    }
}
