//! ConsumerGroupDescribe 0-1 (key 69, KIP-848): consumer groups, their members, what these have and are to have. v1+ tells a member's
//! protocol.

use std::rc::Rc;

use super::Broker;
use super::authorize::Operation;
use super::groups::{NOT_ASKED, may, operations};
use super::list_offsets::note;
use super::service::{CloseReason, Outcome, Request};
use crate::coordinator::group::{Body, Reply};
use crate::model::ErrorCode;
use crate::protocol::messages::consumer_group_describe_response::DescribedGroup;
use crate::protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, GroupId};

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<ConsumerGroupDescribeRequest>()?;
    let (may_describe, others): (Vec<_>, Vec<_>) =
        request.group_ids.into_iter().partition(|group| may(&context, Operation::Describe, group));
    let answers = |reply| match reply {
        Reply::DescribeConsumer(groups) => groups,
        _ => unreachable!("DescribeConsumer is answered in kind"),
    };
    let mut groups = broker.ask_groups(&context, may_describe, Body::DescribeConsumer, answers, failed).await;
    let mut first_error = ErrorCode::None;
    for group in &mut groups {
        note(
            &mut first_error,
            ErrorCode::from_code(group.error_code).unwrap_or(ErrorCode::UnknownServerError),
        );
        let is_asked = request.include_authorized_operations && group.error_code == ErrorCode::None.code();
        group.authorized_operations = operations(&context, &group.group_id, is_asked);
    }
    groups.extend(others.into_iter().map(|group| failed(group, ErrorCode::GroupAuthorizationFailed)));
    Ok(context.reply(ConsumerGroupDescribeResponse::default().with_groups(groups), first_error))
}

fn failed(group: GroupId, error: ErrorCode) -> DescribedGroup {
    DescribedGroup::default()
        .with_group_id(group)
        .with_error_code(error.code())
        .with_authorized_operations(NOT_ASKED)
}
