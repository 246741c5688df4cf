//! DeleteTopics, by name or (v6+) by id. Kafka: ControllerApis.deleteTopics.

use super::{Controller, Refusal, TopicResult, duplicates};
use crate::metadata::record::Record;
use crate::metadata::{Reply, TopicRef};
use crate::model::{ErrorCode, TopicId};

impl Controller {
    pub(super) fn delete_topics(&mut self, topics: &[TopicRef], records: &mut Vec<Record>) -> Reply {
        let refuse_all = |refusal: &Refusal| {
            Reply::Topics(topics.iter().map(|topic| refused(topic, refusal.clone())).collect())
        };
        if !self.settings.delete_topic_enable {
            let message = "topic deletion is disabled (delete.topic.enable=false)".to_owned();
            return refuse_all(&(ErrorCode::TopicDeletionDisabled, message));
        }
        let limit = self.settings.changes_per_request_max;
        if topics.len() > limit {
            let message =
                format!("excessively large number of topics per request, at most {limit} are allowed");
            return refuse_all(&(ErrorCode::PolicyViolation, message));
        }
        // a name and an id that mean the same topic are duplicates too
        let resolved: Vec<_> = topics.iter().map(|topic| self.resolve(topic)).collect();
        let twice = duplicates(resolved.iter().filter_map(|id| id.as_ref().ok()));
        let unknown_twice = duplicates(topics.iter());
        let results = topics.iter().zip(&resolved).map(|(topic, id)| match id {
            Ok(id) if twice.contains(id) => Err(duplicate()),
            Err(_) if unknown_twice.contains(topic) => Err(duplicate()),
            Ok(id) => Ok(*id),
            Err(refusal) => Err(refusal.clone()),
        });
        let decided: Vec<Result<TopicId, Refusal>> = results.collect();
        let results = topics.iter().zip(decided).map(|(topic, decided)| match decided {
            Err(refusal) => refused(topic, refusal),
            Ok(id) => {
                let result =
                    TopicResult::done(self.image.topic(id).expect("resolved, and each id only once"));
                self.append(Record::RemoveTopic { id }, records);
                result
            }
        });
        Reply::Topics(results.collect())
    }

    fn resolve(&self, topic: &TopicRef) -> Result<TopicId, Refusal> {
        match topic {
            TopicRef::Name(name) => self.image.topic_by_name(name).map(|topic| topic.id).ok_or_else(|| {
                (ErrorCode::UnknownTopicOrPartition, "this server does not host this topic".to_owned())
            }),
            TopicRef::Id(TopicId::ZERO) => {
                Err((ErrorCode::InvalidRequest, "neither topic name nor id were specified".to_owned()))
            }
            TopicRef::Id(id) => self.image.topic(*id).map(|topic| topic.id).ok_or_else(|| {
                (ErrorCode::UnknownTopicId, "this server does not host this topic id".to_owned())
            }),
        }
    }
}

fn duplicate() -> Refusal {
    (ErrorCode::InvalidRequest, "duplicate topic name or id".to_owned())
}

/// Tells the client no more than it said.
fn refused(topic: &TopicRef, refusal: Refusal) -> TopicResult {
    match topic {
        TopicRef::Name(name) => TopicResult::refused(name, refusal),
        TopicRef::Id(id) => TopicResult { id: *id, ..TopicResult::refused("", refusal) },
    }
}
