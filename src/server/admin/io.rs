//! hyper's idea of a socket, over the reactor's.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use hyper::rt::{Read, ReadBufCursor, Write};

use super::Client;
use crate::reactor::{now, turn};

/// One receive. Requests are small.
const RECEIVE_BYTES: usize = 4096;
/// What is given to the socket in one go: it is copied once before, since hyper lends it for the call only.
const PORTION_BYTES: usize = 64 * 1024;
/// Sent before the rest of the shard gets a turn: some 50 µs.
const SENT_IN_A_ROW_MAX: usize = 128 * 1024;

pub(super) struct Io {
    client: Rc<Client>,
    received: BytesMut,
    sent_in_a_row: usize,
    /// The others' turn, before more is sent.
    pause: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Io {
    pub(super) fn new(client: Rc<Client>) -> Io {
        Io { client, received: BytesMut::new(), sent_in_a_row: 0, pause: None }
    }
}

impl Read for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Io { client, received, .. } = self.get_mut();
        while received.is_empty() {
            received.reserve(RECEIVE_BYTES);
            match client.stream.try_recv(received, RECEIVE_BYTES)? {
                None => ready!(pin!(client.stream.readable()).poll(context))?,
                Some(0) => return Poll::Ready(Ok(())),
                Some(_) => client.progress.set(now()),
            }
        }
        let taken = buf.remaining().min(received.len());
        buf.put_slice(&received[..taken]);
        received.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl Write for Io {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Io { client, sent_in_a_row, pause, .. } = self.get_mut();
        if let Some(turn) = pause {
            ready!(turn.as_mut().poll(context));
            *pause = None;
        }
        let portion = &bytes[..bytes.len().min(PORTION_BYTES)];
        let mut parts = VecDeque::from([Bytes::copy_from_slice(portion)]);
        let result = pin!(client.stream.send(&mut parts)).poll(context);
        // What is left in the queue was not sent, whatever became of the rest.
        let sent = portion.len() - parts.iter().map(Bytes::len).sum::<usize>();
        if sent == 0 && !portion.is_empty() {
            return match result {
                Poll::Ready(Ok(())) => unreachable!("a send that ends well has sent everything"),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            };
        }
        client.progress.set(now());
        *sent_in_a_row += sent;
        if *sent_in_a_row >= SENT_IN_A_ROW_MAX {
            *sent_in_a_row = 0;
            *pause = Some(Box::pin(turn()));
        }
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.client.stream.shutdown();
        Poll::Ready(Ok(()))
    }

    /// So that hyper hands large bodies over as they are instead of copying them together.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = parts.iter().find(|part| !part.is_empty());
        self.poll_write(context, first.map_or(&[], |part| part))
    }
}
