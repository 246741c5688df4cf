//! Place-holder for the virtual twin: types nobody can make, with the functions that the façade calls on them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

use super::fs::{Entry, Space};
use super::{Instant, MeshFull, OpenMode, SharedBuf};
use crate::model::ShardId;

/// A shard of the simulator: clock, randomness, tasks, names on the virtual disk.
pub(super) enum Shard {}

impl Shard {
    pub(super) fn id(&self) -> ShardId {
        match *self {}
    }
    pub(super) fn count(&self) -> usize {
        match *self {}
    }
    pub(super) fn now(&self) -> Instant {
        match *self {}
    }
    pub(super) fn wall_clock_ms(&self) -> i64 {
        match *self {}
    }
    pub(super) fn random_u64(&self) -> u64 {
        match *self {}
    }
    pub(super) async fn sleep_until(&self, _deadline: Instant) {
        match *self {}
    }
    pub(super) fn spawn(&self, _task: Pin<Box<dyn Future<Output = ()>>>) {
        match *self {}
    }
    pub(super) async fn blocking<T>(&self, _work: impl FnOnce() -> T) -> T {
        match *self {}
    }
    pub(super) async fn turn(&self) {
        match *self {}
    }

    pub(super) async fn read(&self, _path: &Path) -> io::Result<Vec<u8>> {
        match *self {}
    }
    pub(super) async fn write_durable(&self, _path: &Path, _contents: Vec<u8>) -> io::Result<()> {
        match *self {}
    }
    pub(super) async fn write(&self, _path: &Path, _contents: Vec<u8>) -> io::Result<()> {
        match *self {}
    }
    pub(super) async fn create_dir(&self, _path: &Path) -> io::Result<()> {
        match *self {}
    }
    pub(super) async fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        match *self {}
    }
    pub(super) async fn list(&self, _path: &Path) -> io::Result<Vec<Entry>> {
        match *self {}
    }
    pub(super) async fn exists(&self, _path: &Path) -> io::Result<bool> {
        match *self {}
    }
    pub(super) async fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        match *self {}
    }
    pub(super) async fn remove_file(&self, _path: &Path) -> io::Result<()> {
        match *self {}
    }
    pub(super) async fn remove_dir_all(&self, _path: &Path) -> io::Result<()> {
        match *self {}
    }
    pub(super) async fn modified_ms(&self, _path: &Path) -> io::Result<i64> {
        match *self {}
    }
    pub(super) async fn space(&self, _path: &Path) -> io::Result<Space> {
        match *self {}
    }

    pub(super) async fn open(&self, _path: &Path, _mode: OpenMode) -> io::Result<File> {
        match *self {}
    }
    pub(super) fn bind(&self, _address: SocketAddr) -> io::Result<TcpListener> {
        match *self {}
    }
    pub(super) async fn connect(&self, _address: SocketAddr) -> io::Result<TcpStream> {
        match *self {}
    }
}

/// An open file of the virtual disk.
#[derive(Clone)]
pub(super) enum File {}

impl File {
    pub(super) async fn read(&self, _position: u64, _len: usize) -> io::Result<SharedBuf> {
        match *self {}
    }
    pub(super) async fn write(&self, _buf: &SharedBuf, _position: u64) -> io::Result<()> {
        match *self {}
    }
    pub(super) async fn sync_data(&self) -> io::Result<()> {
        match *self {}
    }
    pub(super) async fn allocate(&self, _len: u64) -> io::Result<()> {
        match *self {}
    }
    pub(super) async fn truncate(&self, _len: u64) -> io::Result<()> {
        match *self {}
    }
    pub(super) async fn len(&self) -> io::Result<u64> {
        match *self {}
    }
}

/// One shard's end of the virtual mesh.
pub(super) struct Mesh<M> {
    _never: std::convert::Infallible,
    _message: std::marker::PhantomData<M>,
}

impl<M: Send + 'static> Mesh<M> {
    pub(super) fn try_send(&self, _to: ShardId, _message: M) -> Result<(), MeshFull<M>> {
        match self._never {}
    }
    pub(super) fn on_receive(&self, _receive: impl Fn(ShardId, M) + 'static) {
        match self._never {}
    }
    pub(super) fn depth(&self) -> usize {
        match self._never {}
    }
}

pub(super) enum TcpListener {}

impl TcpListener {
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        match *self {}
    }
    pub(super) async fn accept(&self) -> io::Result<TcpStream> {
        match *self {}
    }
}

pub(super) enum TcpStream {}

impl TcpStream {
    pub(super) fn peer_addr(&self) -> io::Result<SocketAddr> {
        match *self {}
    }
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        match *self {}
    }
    pub(super) async fn readable(&self) -> io::Result<()> {
        match *self {}
    }
    pub(super) fn try_recv(&self, _buf: &mut BytesMut, _max: usize) -> io::Result<Option<usize>> {
        match *self {}
    }
    pub(super) async fn send(&self, _parts: &mut VecDeque<Bytes>) -> io::Result<()> {
        match *self {}
    }
    pub(super) fn shutdown(&self) {
        match *self {}
    }
}
