//! FindCoordinator 0-6 (key 10): which broker coordinates a group, or a transactional id.
//!
//! v1+ also for transactions, v4+ several at once (KIP-699), v6+ also for share groups. The first question makes the coordinator's
//! topic, and waits for it. Where shards have ports of their own, the node is the shard that has the coordinator's partition.
//! Left out: share groups.

use std::rc::Rc;

use super::authorize::Operation;
use super::context::RequestContext;
use super::endpoint::live_node;
use super::groups::may;
use super::list_offsets::note;
use super::service::{CloseReason, Outcome, Request};
use super::topic::message;
use super::{Broker, transactions};
use crate::model::{BrokerId, ErrorCode, PartitionId, ShardId};
use crate::protocol::StrBytes;
use crate::protocol::messages::find_coordinator_response::Coordinator;
use crate::protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

/// From here on a request asks for several.
const SEVERAL_FROM: i16 = 4;
const SHARE_FROM: i16 = 6;

/// Where a coordinator is, or why that is not known.
type Found = Result<(BrokerId, Option<ShardId>), (ErrorCode, &'static str)>;

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<FindCoordinatorRequest>()?;
    let is_one = context.version() < SEVERAL_FROM;
    let keys = if is_one { vec![request.key] } else { request.coordinator_keys };
    let (mut found, mut first_error) = (Vec::with_capacity(keys.len()), ErrorCode::None);
    for key in keys {
        let coordinator = match request.key_type {
            GROUP => broker.group_coordinator(&context, &key).await,
            TRANSACTION => broker.transaction_coordinator(&context, &key).await,
            SHARE if context.version() >= SHARE_FROM => {
                Err((ErrorCode::InvalidRequest, "this broker has no share groups yet"))
            }
            _ => Err((ErrorCode::InvalidRequest, "an unknown kind of coordinator")),
        };
        note(&mut first_error, coordinator.err().map_or(ErrorCode::None, |(error, _)| error));
        found.push(broker.tell_coordinator(&context, key, coordinator));
    }
    let response = match found.pop() {
        Some(only) if is_one => FindCoordinatorResponse::default()
            .with_error_code(only.error_code)
            .with_error_message(only.error_message)
            .with_node_id(only.node_id)
            .with_host(only.host)
            .with_port(only.port),
        last => {
            found.extend(last);
            FindCoordinatorResponse::default().with_coordinators(found)
        }
    };
    Ok(context.reply(response, first_error))
}

impl Broker {
    async fn group_coordinator(self: &Rc<Self>, context: &RequestContext, group: &str) -> Found {
        if !may(context, Operation::Describe, group) {
            return Err((ErrorCode::GroupAuthorizationFailed, "the group may not be described"));
        }
        let partition = self.offsets_partition(group).await;
        self.leader_of(partition)
    }

    async fn transaction_coordinator(self: &Rc<Self>, context: &RequestContext, id: &str) -> Found {
        if !transactions::may(context, Operation::Describe, id) {
            return Err((
                ErrorCode::TransactionalIdAuthorizationFailed,
                "the transactional id may not be described",
            ));
        }
        let partition = self.transactions_partition(id).await;
        self.leader_of(partition)
    }

    fn leader_of(&self, partition: Option<PartitionId>) -> Found {
        let image = self.shard.image();
        let partition = partition.and_then(|partition| image.partition(partition));
        partition.map(|partition| (partition.leader, partition.shard_of(partition.leader))).ok_or((
            ErrorCode::CoordinatorNotAvailable,
            "the coordinator's topic could not be made; the broker's log says why",
        ))
    }

    fn tell_coordinator(&self, context: &RequestContext, key: StrBytes, found: Found) -> Coordinator {
        let answer = Coordinator::default().with_key(key).with_node_id((-1).into()).with_port(-1);
        let (error, text) = match found {
            Ok((broker, shard)) => {
                match live_node(&self.shard.image(), broker, shard, &context.connection.listener) {
                    Some(node) => {
                        return answer
                            .with_node_id(node.id.0.into())
                            .with_host(node.host)
                            .with_port(i32::from(node.port));
                    }
                    None => (ErrorCode::CoordinatorNotAvailable, "the coordinator's broker is not there"),
                }
            }
            Err(refused) => refused,
        };
        answer.with_error_code(error.code()).with_error_message(Some(message(text)))
    }
}
