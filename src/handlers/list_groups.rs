//! ListGroups 0-5 (key 16): the groups this broker coordinates. v4+ by state (KIP-518), v5+ by type (KIP-848).
//!
//! Clients ask every node and add the answers up: by a shard's own port it tells that shard's groups alone.

use std::rc::Rc;

use super::Broker;
use super::authorize::{Operation, Resource, allowed};
use super::groups::may;
use super::service::{CloseReason, Outcome, Request};
use crate::model::ErrorCode;
use crate::protocol::messages::{ListGroupsRequest, ListGroupsResponse};

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<ListGroupsRequest>()?;
    let states = request.states_filter.iter().map(ToString::to_string).collect();
    let types = request.types_filter.iter().map(ToString::to_string).collect();
    let (groups, error) = match broker.shard.list_groups(context.connection.entrance, states, types).await {
        Ok(groups) => (groups, ErrorCode::None),
        Err(error) => (Vec::new(), error),
    };
    let may_see_all = allowed(&context, Operation::Describe, Resource::Cluster);
    let mut seen: Vec<_> = (groups.into_iter())
        .filter(|group| may_see_all || may(&context, Operation::Describe, &group.group_id))
        .collect();
    seen.sort_unstable_by(|a, b| a.group_id.cmp(&b.group_id));
    Ok(context.reply(ListGroupsResponse::default().with_error_code(error.code()).with_groups(seen), error))
}
