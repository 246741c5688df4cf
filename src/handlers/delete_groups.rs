//! DeleteGroups 0-2 (key 42, KIP-229): groups without members go, with their offsets. Left out: v3 (error messages).

use std::rc::Rc;

use super::Broker;
use super::authorize::Operation;
use super::groups::may;
use super::list_offsets::note;
use super::service::{CloseReason, Outcome, Request};
use crate::coordinator::group::{Body, Reply};
use crate::model::ErrorCode;
use crate::protocol::messages::delete_groups_response::DeletableGroupResult;
use crate::protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse, GroupId};

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<DeleteGroupsRequest>()?;
    let (may_delete, others): (Vec<_>, Vec<_>) =
        request.groups_names.into_iter().partition(|group| may(&context, Operation::Delete, group));
    let answers = |reply| match reply {
        Reply::Delete(results) => results,
        _ => unreachable!("Delete is answered in kind"),
    };
    let mut results = broker.ask_groups(&context, may_delete, Body::Delete, answers, failed).await;
    results.extend(others.into_iter().map(|group| failed(group, ErrorCode::GroupAuthorizationFailed)));
    let mut first_error = ErrorCode::None;
    for result in &results {
        note(
            &mut first_error,
            ErrorCode::from_code(result.error_code).unwrap_or(ErrorCode::UnknownServerError),
        );
    }
    Ok(context.reply(DeleteGroupsResponse::default().with_results(results), first_error))
}

fn failed(group: GroupId, error: ErrorCode) -> DeletableGroupResult {
    DeletableGroupResult::default().with_group_id(group).with_error_code(error.code())
}
