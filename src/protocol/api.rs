//! The table of APIs: the one place that says what is served, in which versions, by whom.
//!
//! From it come the ApiVersions reply ([`advertised`]), the choice of header versions, metric labels and the
//! README's compatibility table ([`compatibility_table`], compared by a test). A new API is one line in [`Api`]
//! and one row in the table; the compiler then asks for its handler and its guard shapes.

use std::fmt::Write as _;

use kafka_protocol::messages::api_versions_response::ApiVersion;

/// An API this broker serves. The discriminant is the row in the table, not the key on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Api {
    Produce,
    Fetch,
    ListOffsets,
    Metadata,
    OffsetCommit,
    OffsetFetch,
    FindCoordinator,
    JoinGroup,
    Heartbeat,
    LeaveGroup,
    SyncGroup,
    DescribeGroups,
    ListGroups,
    ApiVersions,
    CreateTopics,
    DeleteTopics,
    DeleteRecords,
    InitProducerId,
    OffsetForLeaderEpoch,
    AddPartitionsToTxn,
    AddOffsetsToTxn,
    EndTxn,
    WriteTxnMarkers,
    TxnOffsetCommit,
    DescribeConfigs,
    AlterConfigs,
    AlterReplicaLogDirs,
    DescribeLogDirs,
    CreatePartitions,
    DeleteGroups,
    ElectLeaders,
    IncrementalAlterConfigs,
    AlterPartitionReassignments,
    ListPartitionReassignments,
    OffsetDelete,
    DescribeQuorum,
    UpdateFeatures,
    DescribeCluster,
    DescribeProducers,
    DescribeTransactions,
    ListTransactions,
    ConsumerGroupHeartbeat,
    ConsumerGroupDescribe,
    ListConfigResources,
    DescribeTopicPartitions,
}

/// Who has the answer. Every broker accepts every API; this says where it goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServedBy {
    /// The shard the connection lives on, from the table and the image it holds.
    Connection,
    /// The shards that own the partitions named.
    Partition,
    /// The controller, whichever broker that is.
    Controller,
    /// The coordinators of the groups, or transactional ids, named.
    Coordinator,
}

/// An inclusive range of versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    pub min: i16,
    pub max: i16,
}

impl Versions {
    #[must_use]
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    /// Every version from the lowest up.
    pub fn iter(self) -> impl Iterator<Item = i16> {
        self.min..=self.max
    }
}

struct Row {
    api: Api,
    key: i16,
    name: &'static str,
    accepted: Versions,
    /// What ApiVersions says, where that is not what is accepted.
    advertised: Option<Versions>,
    /// From this version on, lengths are compact and structures end in tagged fields.
    flexible_since: i16,
    served_by: ServedBy,
}

const fn v(min: i16, max: i16) -> Versions {
    Versions { min, max }
}

#[rustfmt::skip]
const TABLE: [Row; 45] = [
    // librdkafka looks for Produce 0 before it trusts a broker with anything newer (KAFKA-18659)
    Row { api: Api::Produce,                     key: 0,  name: "Produce",                     accepted: v(3, 13), advertised: Some(v(0, 13)), flexible_since: 9,  served_by: ServedBy::Partition },
    Row { api: Api::Fetch,                       key: 1,  name: "Fetch",                       accepted: v(4, 18), advertised: None,           flexible_since: 12, served_by: ServedBy::Partition },
    Row { api: Api::ListOffsets,                 key: 2,  name: "ListOffsets",                 accepted: v(1, 10), advertised: None,           flexible_since: 6,  served_by: ServedBy::Partition },
    Row { api: Api::Metadata,                    key: 3,  name: "Metadata",                    accepted: v(0, 13), advertised: None,           flexible_since: 9,  served_by: ServedBy::Connection },
    Row { api: Api::OffsetCommit,                key: 8,  name: "OffsetCommit",                accepted: v(2, 10), advertised: None,           flexible_since: 8,  served_by: ServedBy::Coordinator },
    Row { api: Api::OffsetFetch,                 key: 9,  name: "OffsetFetch",                 accepted: v(1, 10), advertised: None,           flexible_since: 6,  served_by: ServedBy::Coordinator },
    Row { api: Api::FindCoordinator,             key: 10, name: "FindCoordinator",             accepted: v(0, 6),  advertised: None,           flexible_since: 3,  served_by: ServedBy::Connection },
    Row { api: Api::JoinGroup,                   key: 11, name: "JoinGroup",                   accepted: v(0, 9),  advertised: None,           flexible_since: 6,  served_by: ServedBy::Coordinator },
    Row { api: Api::Heartbeat,                   key: 12, name: "Heartbeat",                   accepted: v(0, 4),  advertised: None,           flexible_since: 4,  served_by: ServedBy::Coordinator },
    Row { api: Api::LeaveGroup,                  key: 13, name: "LeaveGroup",                  accepted: v(0, 5),  advertised: None,           flexible_since: 4,  served_by: ServedBy::Coordinator },
    Row { api: Api::SyncGroup,                   key: 14, name: "SyncGroup",                   accepted: v(0, 5),  advertised: None,           flexible_since: 4,  served_by: ServedBy::Coordinator },
    Row { api: Api::DescribeGroups,              key: 15, name: "DescribeGroups",              accepted: v(0, 6),  advertised: None,           flexible_since: 5,  served_by: ServedBy::Coordinator },
    Row { api: Api::ListGroups,                  key: 16, name: "ListGroups",                  accepted: v(0, 5),  advertised: None,           flexible_since: 3,  served_by: ServedBy::Connection },
    Row { api: Api::ApiVersions,                 key: 18, name: "ApiVersions",                 accepted: v(0, 4),  advertised: None,           flexible_since: 3,  served_by: ServedBy::Connection },
    Row { api: Api::CreateTopics,                key: 19, name: "CreateTopics",                accepted: v(2, 7),  advertised: None,           flexible_since: 5,  served_by: ServedBy::Controller },
    Row { api: Api::DeleteTopics,                key: 20, name: "DeleteTopics",                accepted: v(1, 6),  advertised: None,           flexible_since: 4,  served_by: ServedBy::Controller },
    Row { api: Api::DeleteRecords,               key: 21, name: "DeleteRecords",               accepted: v(0, 2),  advertised: None,           flexible_since: 2,  served_by: ServedBy::Partition },
    Row { api: Api::InitProducerId,              key: 22, name: "InitProducerId",              accepted: v(0, 5),  advertised: None,           flexible_since: 2,  served_by: ServedBy::Coordinator },
    Row { api: Api::OffsetForLeaderEpoch,        key: 23, name: "OffsetForLeaderEpoch",        accepted: v(2, 4),  advertised: None,           flexible_since: 4,  served_by: ServedBy::Partition },
    Row { api: Api::AddPartitionsToTxn,          key: 24, name: "AddPartitionsToTxn",          accepted: v(0, 5),  advertised: None,           flexible_since: 3,  served_by: ServedBy::Coordinator },
    Row { api: Api::AddOffsetsToTxn,             key: 25, name: "AddOffsetsToTxn",             accepted: v(0, 4),  advertised: None,           flexible_since: 3,  served_by: ServedBy::Coordinator },
    Row { api: Api::EndTxn,                      key: 26, name: "EndTxn",                      accepted: v(0, 5),  advertised: None,           flexible_since: 3,  served_by: ServedBy::Coordinator },
    Row { api: Api::WriteTxnMarkers,             key: 27, name: "WriteTxnMarkers",             accepted: v(1, 1),  advertised: None,           flexible_since: 1,  served_by: ServedBy::Partition },
    Row { api: Api::TxnOffsetCommit,             key: 28, name: "TxnOffsetCommit",             accepted: v(0, 5),  advertised: None,           flexible_since: 3,  served_by: ServedBy::Coordinator },
    Row { api: Api::DescribeConfigs,             key: 32, name: "DescribeConfigs",             accepted: v(1, 4),  advertised: None,           flexible_since: 4,  served_by: ServedBy::Connection },
    Row { api: Api::AlterConfigs,                key: 33, name: "AlterConfigs",                accepted: v(0, 2),  advertised: None,           flexible_since: 2,  served_by: ServedBy::Controller },
    Row { api: Api::AlterReplicaLogDirs,         key: 34, name: "AlterReplicaLogDirs",         accepted: v(1, 2),  advertised: None,           flexible_since: 2,  served_by: ServedBy::Partition },
    Row { api: Api::DescribeLogDirs,             key: 35, name: "DescribeLogDirs",             accepted: v(1, 4),  advertised: None,           flexible_since: 2,  served_by: ServedBy::Partition },
    Row { api: Api::CreatePartitions,            key: 37, name: "CreatePartitions",            accepted: v(0, 3),  advertised: None,           flexible_since: 2,  served_by: ServedBy::Controller },
    Row { api: Api::DeleteGroups,                key: 42, name: "DeleteGroups",                accepted: v(0, 2),  advertised: None,           flexible_since: 2,  served_by: ServedBy::Coordinator },
    Row { api: Api::ElectLeaders,                key: 43, name: "ElectLeaders",                accepted: v(0, 2),  advertised: None,           flexible_since: 2,  served_by: ServedBy::Controller },
    Row { api: Api::IncrementalAlterConfigs,     key: 44, name: "IncrementalAlterConfigs",     accepted: v(0, 1),  advertised: None,           flexible_since: 1,  served_by: ServedBy::Controller },
    Row { api: Api::AlterPartitionReassignments, key: 45, name: "AlterPartitionReassignments", accepted: v(0, 1),  advertised: None,           flexible_since: 0,  served_by: ServedBy::Controller },
    Row { api: Api::ListPartitionReassignments,  key: 46, name: "ListPartitionReassignments",  accepted: v(0, 0),  advertised: None,           flexible_since: 0,  served_by: ServedBy::Connection },
    Row { api: Api::OffsetDelete,                key: 47, name: "OffsetDelete",                accepted: v(0, 0),  advertised: None,           flexible_since: i16::MAX, served_by: ServedBy::Coordinator },
    Row { api: Api::DescribeQuorum,              key: 55, name: "DescribeQuorum",              accepted: v(0, 2),  advertised: None,           flexible_since: 0,  served_by: ServedBy::Connection },
    Row { api: Api::UpdateFeatures,              key: 57, name: "UpdateFeatures",              accepted: v(0, 2),  advertised: None,           flexible_since: 0,  served_by: ServedBy::Controller },
    Row { api: Api::DescribeCluster,             key: 60, name: "DescribeCluster",             accepted: v(0, 2),  advertised: None,           flexible_since: 0,  served_by: ServedBy::Connection },
    Row { api: Api::DescribeProducers,           key: 61, name: "DescribeProducers",           accepted: v(0, 0),  advertised: None,           flexible_since: 0,  served_by: ServedBy::Partition },
    Row { api: Api::DescribeTransactions,        key: 65, name: "DescribeTransactions",        accepted: v(0, 0),  advertised: None,           flexible_since: 0,  served_by: ServedBy::Coordinator },
    Row { api: Api::ListTransactions,            key: 66, name: "ListTransactions",            accepted: v(0, 2),  advertised: None,           flexible_since: 0,  served_by: ServedBy::Connection },
    Row { api: Api::ConsumerGroupHeartbeat,      key: 68, name: "ConsumerGroupHeartbeat",      accepted: v(0, 1),  advertised: None,           flexible_since: 0,  served_by: ServedBy::Coordinator },
    Row { api: Api::ConsumerGroupDescribe,       key: 69, name: "ConsumerGroupDescribe",       accepted: v(0, 1),  advertised: None,           flexible_since: 0,  served_by: ServedBy::Coordinator },
    Row { api: Api::ListConfigResources,         key: 74, name: "ListConfigResources",         accepted: v(0, 1),  advertised: None,           flexible_since: 0,  served_by: ServedBy::Connection },
    Row { api: Api::DescribeTopicPartitions,     key: 75, name: "DescribeTopicPartitions",     accepted: v(0, 0),  advertised: None,           flexible_since: 0,  served_by: ServedBy::Connection },
];

// A row stands where its API's discriminant says, and keys rise, so the compatibility table is in key order.
const _: () = {
    let mut i = 0;
    while i < TABLE.len() {
        assert!(TABLE[i].api as usize == i);
        assert!(i == 0 || TABLE[i - 1].key < TABLE[i].key);
        i += 1;
    }
};

/// Keys are small and dense: a direct table from key to API.
const BY_KEY: [Option<Api>; 128] = {
    let mut by_key = [None; 128];
    let mut i = 0;
    while i < TABLE.len() {
        by_key[TABLE[i].key as usize] = Some(TABLE[i].api);
        i += 1;
    }
    by_key
};

/// The version of a request header: 1 ends with the client id, 2 goes on with tagged fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestHeaderVersion {
    V1,
    V2,
}

/// The version of a response header: 0 is the correlation id alone, 1 goes on with tagged fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseHeaderVersion {
    V0,
    V1,
}

impl Api {
    /// Every API, in the order of their keys.
    pub fn all() -> impl ExactSizeIterator<Item = Api> {
        TABLE.iter().map(|row| row.api)
    }

    /// The API a request's key names, if this broker serves it.
    #[must_use]
    pub fn from_key(key: i16) -> Option<Api> {
        BY_KEY.get(usize::try_from(key).ok()?).copied().flatten()
    }

    const fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The key on the wire.
    #[must_use]
    pub const fn key(self) -> i16 {
        self.row().key
    }

    /// Kafka's name, which is also the `request` label of metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// The versions a request may have; any other closes the connection (ApiVersions answers instead).
    #[must_use]
    pub const fn accepted(self) -> Versions {
        self.row().accepted
    }

    /// The versions ApiVersions tells of.
    #[must_use]
    pub const fn advertised(self) -> Versions {
        match self.row().advertised {
            Some(versions) => versions,
            None => self.row().accepted,
        }
    }

    #[must_use]
    pub const fn served_by(self) -> ServedBy {
        self.row().served_by
    }

    #[must_use]
    pub const fn is_flexible(self, version: i16) -> bool {
        version >= self.row().flexible_since
    }

    #[must_use]
    pub const fn request_header(self, version: i16) -> RequestHeaderVersion {
        if self.is_flexible(version) { RequestHeaderVersion::V2 } else { RequestHeaderVersion::V1 }
    }

    /// ApiVersions keeps header 0 in every version: a client that does not yet know the broker must be able to
    /// read the answer.
    #[must_use]
    pub const fn response_header(self, version: i16) -> ResponseHeaderVersion {
        if self.is_flexible(version) && !matches!(self, Api::ApiVersions) {
            ResponseHeaderVersion::V1
        } else {
            ResponseHeaderVersion::V0
        }
    }
}

/// The entries of an ApiVersions reply, in the order of their keys.
#[must_use]
pub fn advertised() -> Vec<ApiVersion> {
    Api::all().map(advertised_entry).collect()
}

/// One API's entry in an ApiVersions reply.
#[must_use]
pub fn advertised_entry(api: Api) -> ApiVersion {
    let versions = api.advertised();
    ApiVersion::default()
        .with_api_key(api.key())
        .with_min_version(versions.min)
        .with_max_version(versions.max)
}

/// The README's table of what is served, in Markdown, without the comment markers around it.
#[must_use]
pub fn compatibility_table() -> String {
    let mut table = String::from("| key | API | versions |\n|---|---|---|\n");
    for api in Api::all() {
        let Versions { min, max } = api.accepted();
        write!(table, "| {} | {} | {min}-{max}", api.key(), api.name()).expect("a String takes all");
        if api.advertised() != api.accepted() {
            let Versions { min, max } = api.advertised();
            write!(table, " (advertised {min}-{max})").expect("a String takes all");
        }
        table.push_str(" |\n");
    }
    table
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ApiKey;

    use super::*;

    #[test]
    fn keys_lead_to_their_rows() {
        for api in Api::all() {
            assert_eq!(Api::from_key(api.key()), Some(api));
        }
        for key in [-1, i16::MIN, 4, 17, 127, 128, i16::MAX] {
            assert_eq!(Api::from_key(key), None, "key {key}");
        }
    }

    /// What the crate can decode and encode, and the header versions it would choose.
    #[test]
    fn the_table_agrees_with_the_crate() {
        for api in Api::all() {
            let key = ApiKey::try_from(api.key()).expect("a key of the crate");
            assert_eq!(format!("{key:?}"), api.name());
            let of_crate = key.valid_versions();
            assert!(of_crate.min <= api.accepted().min, "{api:?}");
            assert!(of_crate.max >= api.accepted().max, "{api:?}");
            for version in api.accepted().iter() {
                let request = match api.request_header(version) {
                    RequestHeaderVersion::V1 => 1,
                    RequestHeaderVersion::V2 => 2,
                };
                let response = match api.response_header(version) {
                    ResponseHeaderVersion::V0 => 0,
                    ResponseHeaderVersion::V1 => 1,
                };
                assert_eq!(key.request_header_version(version), request, "{api:?} {version}");
                assert_eq!(key.response_header_version(version), response, "{api:?} {version}");
            }
        }
    }

    #[test]
    fn produce_is_advertised_from_zero_but_accepted_from_three() {
        assert_eq!(Api::Produce.advertised(), v(0, 13));
        assert!(!Api::Produce.accepted().contains(2));
        assert!(Api::Produce.accepted().contains(3));
        let entry = advertised().into_iter().find(|entry| entry.api_key == 0).expect("Produce");
        assert_eq!((entry.min_version, entry.max_version), (0, 13));
    }

    /// The README holds the table between two comment markers; on failure the message is what to paste there.
    #[test]
    fn the_readme_has_the_table() {
        let readme = include_str!("../../README.md");
        let table = readme
            .split_once("<!-- api-table -->")
            .and_then(|(_, rest)| rest.split_once("<!-- /api-table -->"))
            .map(|(table, _)| table.trim())
            .expect("README.md has the markers <!-- api-table --> and <!-- /api-table -->");
        let expected = compatibility_table();
        assert!(table == expected.trim(), "put this between README.md's api-table markers:\n\n{expected}");
    }
}
