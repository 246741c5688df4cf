//! DeleteTopics 1-6 (key 20, KIP-4): by name, or (v6, KIP-516) by name or id, decided by the controller.
//!
//! delete.topic.enable=false is TOPIC_DELETION_DISABLED, and INVALID_REQUEST before v3. v5+ says why in words
//! (KIP-599, whose quota is left out). A client that may not describe a topic it names by id is not told its name.

use std::rc::Rc;

use super::authorize::{Operation, Resource, allowed};
use super::context::RequestContext;
use super::create_topics::{decided, patience};
use super::list_offsets::note;
use super::service::{CloseReason, Outcome, Request};
use super::topic::{message, topic_id, wire_id};
use super::{Broker, control};
use crate::metadata::TopicRef;
use crate::model::{ErrorCode, TopicId};
use crate::protocol::StrBytes;
use crate::protocol::messages::delete_topics_response::DeletableTopicResult;
use crate::protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};

/// One topic of the request, as the client named it.
enum Asked {
    For(TopicRef),
    Refused(ErrorCode, &'static str),
}

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<DeleteTopicsRequest>()?;
    let (mut results, asked) = if context.version() >= 6 {
        by_name_or_id(&broker, &context, &request)
    } else {
        by_name(&context, &request)
    };
    let mut first_error = ErrorCode::None;
    let mut refs = Vec::new();
    let mut places = Vec::new();
    for (place, asked) in asked.into_iter().enumerate() {
        match asked {
            Asked::For(topic) => {
                refs.push(topic);
                places.push(place);
            }
            Asked::Refused(error, text) => {
                note(&mut first_error, error);
                results[place].error_code = error.code();
                results[place].error_message = Some(message(text));
            }
        }
    }
    if !refs.is_empty() {
        let control = control::Request::DeleteTopics { topics: refs };
        let reply = broker.control(control, patience(request.timeout_ms)).await;
        match decided(reply, places.len()) {
            Ok(decided) => {
                for (&place, result) in places.iter().zip(decided) {
                    let error = match result.error {
                        ErrorCode::TopicDeletionDisabled if context.version() < 3 => {
                            ErrorCode::InvalidRequest
                        }
                        error => error,
                    };
                    note(&mut first_error, error);
                    let answer = &mut results[place];
                    answer.error_code = error.code();
                    answer.error_message = result.message.map(message);
                    if error.is_none() {
                        answer.name = Some(TopicName(StrBytes::from_string(result.name)));
                        answer.topic_id = wire_id(result.id);
                    }
                }
            }
            Err(error) => {
                note(&mut first_error, error);
                for place in places {
                    results[place].error_code = error.code();
                }
            }
        }
    }
    Ok(context.reply(DeleteTopicsResponse::default().with_responses(results), first_error))
}

fn by_name(
    context: &RequestContext,
    request: &DeleteTopicsRequest,
) -> (Vec<DeletableTopicResult>, Vec<Asked>) {
    request
        .topic_names
        .iter()
        .map(|name| {
            let answer = DeletableTopicResult::default().with_name(Some(name.clone()));
            (answer, named(context, name))
        })
        .unzip()
}

fn by_name_or_id(
    broker: &Broker,
    context: &RequestContext,
    request: &DeleteTopicsRequest,
) -> (Vec<DeletableTopicResult>, Vec<Asked>) {
    request
        .topics
        .iter()
        .map(|topic| {
            let id = topic_id(topic.topic_id);
            let answer =
                DeletableTopicResult::default().with_name(topic.name.clone()).with_topic_id(topic.topic_id);
            let asked = match &topic.name {
                Some(_) if id != TopicId::ZERO => Asked::Refused(
                    ErrorCode::InvalidRequest,
                    "you may not specify both topic name and topic id",
                ),
                Some(name) => named(context, name),
                None => {
                    let image = broker.shard.image();
                    let name = image.topic(id).map(|topic| topic.name.as_str());
                    match name {
                        Some(name) if !allowed(context, Operation::Describe, Resource::Topic(name)) => {
                            Asked::Refused(
                                ErrorCode::UnknownTopicId,
                                "this server does not host this topic id",
                            )
                        }
                        Some(name) if !allowed(context, Operation::Delete, Resource::Topic(name)) => {
                            Asked::Refused(ErrorCode::TopicAuthorizationFailed, "topic authorization failed")
                        }
                        _ => Asked::For(TopicRef::Id(id)),
                    }
                }
            };
            (answer, asked)
        })
        .unzip()
}

fn named(context: &RequestContext, name: &TopicName) -> Asked {
    if allowed(context, Operation::Delete, Resource::Topic(name)) {
        Asked::For(TopicRef::Name(name.to_string()))
    } else {
        Asked::Refused(ErrorCode::TopicAuthorizationFailed, "topic authorization failed")
    }
}
