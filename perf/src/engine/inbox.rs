//! Cuts responses out of what arrives, into a buffer that is used again.

use std::io::{self, Read};
use std::net::TcpStream;

/// A response longer than this is not one.
const RESPONSE_BYTES_MAX: usize = 1 << 30;

pub struct Inbox {
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
    /// What one read takes at least, room permitting.
    read_bytes: usize,
}

impl Inbox {
    #[must_use]
    pub fn new(read_bytes: usize) -> Inbox {
        Inbox { buffer: vec![0; read_bytes], begin: 0, end: 0, read_bytes }
    }

    /// Reads once; false if there was nothing.
    ///
    /// # Errors
    /// The connection's; its end is `UnexpectedEof`.
    pub fn fill(&mut self, mut stream: &TcpStream) -> io::Result<bool> {
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        }
        // room for the rest of the response that has begun, or for a read
        let wanted = self.response_bytes().unwrap_or(0).max(self.end - self.begin + 4);
        if self.buffer.len() - self.begin < wanted {
            self.buffer.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
            if self.buffer.len() < wanted {
                self.buffer.resize(wanted.next_multiple_of(self.read_bytes), 0);
            }
        }
        match stream.read(&mut self.buffer[self.end..]) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the broker closed the connection")),
            Ok(read) => {
                self.end += read;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The next whole response, without its length.
    ///
    /// # Errors
    /// A length that no response has.
    pub fn next(&mut self) -> io::Result<Option<&[u8]>> {
        let Some(bytes) = self.response_bytes() else { return Ok(None) };
        if bytes > RESPONSE_BYTES_MAX {
            return Err(io::Error::other("a response of more than 1 GiB: not a Kafka broker?"));
        }
        if self.end - self.begin < bytes {
            return Ok(None);
        }
        let response = self.begin + 4..self.begin + bytes;
        self.begin += bytes;
        Ok(Some(&self.buffer[response]))
    }

    /// Of the response at the front, its length included.
    fn response_bytes(&self) -> Option<usize> {
        let length = self.buffer[self.begin..self.end].first_chunk()?;
        Some(4 + u32::from_be_bytes(*length) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    #[test]
    fn responses_are_cut_wherever_they_are_torn() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut server =
            TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let (client, _) = listener.accept().expect("a connection");
        let mut sent = Vec::new();
        for i in 0..200_u32 {
            sent.extend_from_slice(&(i * 7).to_be_bytes());
            sent.extend(std::iter::repeat_n(i as u8, (i * 7) as usize));
        }
        let mut inbox = Inbox::new(64);
        let mut next = 0_u32;
        for piece in sent.chunks(97) {
            server.write_all(piece).expect("sent");
            let mut left = piece.len();
            while left > 0 {
                let before = inbox.end - inbox.begin;
                assert!(inbox.fill(&client).expect("read"));
                left -= inbox.end - inbox.begin - before;
                while let Some(response) = inbox.next().expect("a response") {
                    assert_eq!(response.len(), (next * 7) as usize);
                    assert!(response.iter().all(|byte| *byte == next as u8));
                    next += 1;
                }
            }
        }
        assert_eq!(next, 200);
        assert!(inbox.buffer.len() < 4096, "the buffer grew to {}", inbox.buffer.len());
        drop(server);
        assert_eq!(inbox.fill(&client).map_err(|error| error.kind()), Err(io::ErrorKind::UnexpectedEof));
    }
}
