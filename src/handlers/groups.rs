//! What the handlers of consumer groups share: asking the coordinator of a group, wherever it is.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::rc::Rc;

use super::Broker;
use super::authorize::{Operation, Resource, allowed, group_operations};
use super::context::RequestContext;
use crate::coordinator::group::{Body, Client, Reply, Request};
use crate::model::{ErrorCode, PartitionId};
use crate::protocol::messages::GroupId;
use crate::reactor::spawn;

/// What a group's authorized_operations says when nobody has asked for them.
pub(super) const NOT_ASKED: i32 = i32::MIN;

impl Broker {
    /// One request about one group.
    ///
    /// # Errors
    /// Those with which a client looks for the coordinator again.
    pub(super) async fn ask_group(
        &self,
        context: &RequestContext,
        group: &str,
        body: Body,
    ) -> Result<Reply, ErrorCode> {
        let partition = self.shard.offsets_partition(group).ok_or(ErrorCode::NotCoordinator)?;
        self.ask_coordinator(context, partition, body).await
    }

    fn ask_coordinator(
        &self,
        context: &RequestContext,
        partition: PartitionId,
        body: Body,
    ) -> impl Future<Output = Result<Reply, ErrorCode>> + use<> {
        let client =
            Client { id: context.client_id().to_owned(), host: client_host(context.connection.peer.ip()) };
        let request = Request { version: context.version(), client, body };
        let shard = Rc::clone(&self.shard);
        async move { shard.coordinate(partition, request).await }
    }

    /// One question about many groups, one request to each coordinator that has some of them, side by side. What cannot be
    /// asked is answered by `refused`; the order is the coordinators'.
    pub(super) async fn ask_groups<T>(
        &self,
        context: &RequestContext,
        groups: Vec<GroupId>,
        body: impl Fn(Vec<GroupId>) -> Body,
        answers: impl Fn(Reply) -> Vec<T>,
        refused: impl Fn(GroupId, ErrorCode) -> T,
    ) -> Vec<T> {
        let mut results = Vec::with_capacity(groups.len());
        let mut by_partition: BTreeMap<PartitionId, Vec<GroupId>> = BTreeMap::new();
        for group in groups {
            match self.shard.offsets_partition(&group) {
                Some(partition) => by_partition.entry(partition).or_default().push(group),
                None => results.push(refused(group, ErrorCode::NotCoordinator)),
            }
        }
        let asked: Vec<_> = (by_partition.into_iter())
            .map(|(partition, groups)| {
                let asked = self.ask_coordinator(context, partition, body(groups.clone()));
                (groups, spawn(asked))
            })
            .collect();
        for (groups, reply) in asked {
            match reply.await {
                Ok(reply) => results.extend(answers(reply)),
                Err(error) => results.extend(groups.into_iter().map(|group| refused(group, error))),
            }
        }
        results
    }
}

/// As Kafka describes a member's host.
fn client_host(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => format!("/{address}"),
        IpAddr::V6(address) => {
            let parts: Vec<String> = address.segments().iter().map(|part| format!("{part:x}")).collect();
            format!("/{}", parts.join(":"))
        }
    }
}

/// The authorized operations of a group, if they are asked for and may be told.
pub(super) fn operations(context: &RequestContext, group: &str, asked: bool) -> i32 {
    if asked { group_operations(context, group) } else { NOT_ASKED }
}

pub(super) fn may(context: &RequestContext, operation: Operation, group: &str) -> bool {
    allowed(context, operation, Resource::Group(group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_written_as_java_does() {
        for (address, host) in [
            ("127.0.0.1", "/127.0.0.1"),
            ("::1", "/0:0:0:0:0:0:0:1"),
            ("::ffff:10.0.0.1", "/10.0.0.1"),
            ("2001:db8::a", "/2001:db8:0:0:0:0:0:a"),
        ] {
            assert_eq!(client_host(address.parse().unwrap()), host);
        }
    }
}
