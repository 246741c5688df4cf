//! The seam for ACLs: every handler asks here before it does or tells anything.

use super::context::RequestContext;

/// Kafka's `AclOperation`; the discriminant is Kafka's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i8)]
pub enum Operation {
    Read = 3,
    Write = 4,
    Create = 5,
    Delete = 6,
    Alter = 7,
    Describe = 8,
    ClusterAction = 9,
    DescribeConfigs = 10,
    AlterConfigs = 11,
    IdempotentWrite = 12,
}

/// What an operation is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource<'a> {
    Cluster,
    Topic(&'a str),
    Group(&'a str),
    TransactionalId(&'a str),
}

/// Whether the request's principal may do this. Until ACLs exist everybody may do everything.
#[must_use]
pub fn allowed(context: &RequestContext, operation: Operation, resource: Resource<'_>) -> bool {
    let _ = (context, operation, resource);
    true
}

/// What a topic's authorized_operations says: one bit per operation's id.
#[must_use]
pub fn topic_operations(context: &RequestContext, topic: &str) -> i32 {
    use Operation::{Alter, AlterConfigs, Create, Delete, Describe, DescribeConfigs, Read, Write};
    let all = [Read, Write, Create, Delete, Alter, Describe, DescribeConfigs, AlterConfigs];
    operations(context, &all, Resource::Topic(topic))
}

/// What a group's authorized_operations says.
#[must_use]
pub fn group_operations(context: &RequestContext, group: &str) -> i32 {
    use Operation::{AlterConfigs, Delete, Describe, DescribeConfigs, Read};
    operations(context, &[Read, Delete, Describe, DescribeConfigs, AlterConfigs], Resource::Group(group))
}

/// What a cluster's authorized_operations says.
#[must_use]
pub fn cluster_operations(context: &RequestContext) -> i32 {
    use Operation::{Alter, AlterConfigs, ClusterAction, Create, Describe, DescribeConfigs, IdempotentWrite};
    let all = [Create, Alter, Describe, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite];
    operations(context, &all, Resource::Cluster)
}

fn operations(context: &RequestContext, all: &[Operation], resource: Resource<'_>) -> i32 {
    let may = all.iter().filter(|&&operation| allowed(context, operation, resource));
    may.fold(0, |bits, &operation| bits | 1 << operation as i8)
}
