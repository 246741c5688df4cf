use super::*;

const NOT_NEEDED: &str = "ElectionNotNeeded: the leader needs no election";

impl Cluster {
    /// Changes a partition as a follower's or a broker's fate would.
    fn change(&mut self, name: &str, change: PartitionChange) {
        let mut image = self.image().clone();
        let partition = PartitionId { topic: self.id(name), index: 0 };
        let PartitionEpoch(epoch) = image.partition(partition).unwrap().partition_epoch;
        let change = PartitionChange { partition, partition_epoch: PartitionEpoch(epoch + 1), ..change };
        image.replay(&Record::PartitionChange(change)).unwrap();
        self.controller = Controller::new(Settings::default(), image);
    }

    /// Has `broker` count as gone.
    fn fence(&mut self, broker: i32) {
        let mut image = self.image().clone();
        let registration = image.broker(BrokerId(broker)).unwrap().clone();
        let epoch = BrokerEpoch(image.last_broker_epoch().0 + 1);
        image.replay(&Record::RegisterBroker(Registration { epoch, fenced: true, ..registration })).unwrap();
        self.controller = Controller::new(Settings::default(), image);
    }

    /// `2 epoch 1 isr 2`
    fn leadership(&self, name: &str) -> String {
        let partition = self.partition(name, 0);
        let isr: Vec<String> = partition.isr.iter().map(|broker| broker.0.to_string()).collect();
        format!("{} epoch {} isr {}", partition.leader.0, partition.leader_epoch.0, isr.join(","))
    }
}

#[test]
fn the_preferred_leader_takes_over() {
    let mut cluster = Cluster::new(3);
    cluster.reply("create a - - @0=1,2; b 2 1");
    cluster.check(&[
        ("elect preferred a/0", &format!("a/0 {NOT_NEEDED}")),
        ("elect preferred *", ""),
        ("reassign a/0=2,1", "a/0 None"),
        ("elect unclean a/0", &format!("a/0 {NOT_NEEDED}")),
        ("elect unclean *", ""),
        ("elect preferred *", "a/0 None"),
    ]);
    assert_eq!(cluster.leadership("a"), "2 epoch 1 isr 1,2");
    cluster.check(&[
        ("reassign a/0=1,2", "a/0 None"),
        (
            "elect preferred nothing/0 a/1 a/0 a/0",
            &format!(
                "nothing/0 UnknownTopicOrPartition: there is no topic nothing\na/1 UnknownTopicOrPartition: there is \
                 no partition a-1\na/0 None\na/0 {NOT_NEEDED}"
            ),
        ),
    ]);
    assert_eq!(cluster.leadership("a"), "1 epoch 2 isr 1,2");
}

#[test]
fn who_is_not_in_sync_or_gone_is_not_preferred() {
    let unavailable = "a/0 PreferredLeaderNotAvailable: the preferred leader is not available";
    let mut cluster = Cluster::new(3);
    cluster.reply("create a - - @0=1,2,3");
    cluster.reply("reassign a/0=2,1,3");
    cluster.change("a", PartitionChange { isr: Some(vec![BrokerId(1)]), ..PartitionChange::default() });
    assert_eq!(cluster.reply("elect preferred a/0"), unavailable);
    let isr = Some(vec![BrokerId(1), BrokerId(2), BrokerId(3)]);
    cluster.change("a", PartitionChange { isr, ..PartitionChange::default() });
    cluster.fence(2);
    assert_eq!(cluster.reply("elect preferred a/0"), unavailable);
    assert_eq!(cluster.leadership("a"), "1 epoch 0 isr 1,2,3");
    // where nobody leads, another is better than none
    cluster.change("a", PartitionChange { leader: Some(BrokerId::NONE), ..PartitionChange::default() });
    assert_eq!(cluster.reply("elect preferred a/0"), "a/0 None");
    assert_eq!(cluster.leadership("a"), "1 epoch 1 isr 1,2,3");
}

#[test]
fn an_unclean_election_takes_whoever_is_alive() {
    let leaderless = |isr: &[i32], elr: &[i32]| PartitionChange {
        leader: Some(BrokerId::NONE),
        isr: Some(isr.iter().map(|&id| BrokerId(id)).collect()),
        elr: Some(elr.iter().map(|&id| BrokerId(id)).collect()),
        ..PartitionChange::default()
    };
    // in sync, in the ELR, who is gone, and who leads then
    for (isr, elr, fenced, expected) in [
        (&[3][..], &[][..], &[][..], "3 epoch 1 isr 3"),
        (&[3, 2], &[], &[], "2 epoch 1 isr 3,2"),
        (&[], &[3], &[], "3 epoch 1 isr 3"),
        (&[3], &[2], &[3], "1 epoch 1 isr 1"),
        (&[1], &[], &[1, 2], "3 epoch 1 isr 3"),
    ] {
        let mut cluster = Cluster::new(3);
        cluster.reply("create a - - @0=1,2,3");
        cluster.change("a", leaderless(isr, elr));
        fenced.iter().for_each(|&broker| cluster.fence(broker));
        assert_eq!(cluster.reply("elect unclean *"), "a/0 None", "{expected}");
        assert_eq!(cluster.leadership("a"), expected);
        assert!(cluster.partition("a", 0).elr.is_empty());
        assert_eq!(cluster.reply("elect unclean a/0"), format!("a/0 {NOT_NEEDED}"));
    }
    let mut cluster = Cluster::new(1);
    cluster.reply("create a 1 1");
    cluster.change("a", leaderless(&[1], &[]));
    cluster.fence(1);
    cluster.check(&[
        ("elect unclean a/0", "a/0 EligibleLeadersNotAvailable: no replica is alive"),
        ("elect preferred a/0", "a/0 PreferredLeaderNotAvailable: the preferred leader is not available"),
    ]);
}

#[test]
fn one_election_is_bounded() {
    let settings = Settings { changes_per_request_max: 3, ..Settings::default() };
    let mut cluster = Cluster::with(settings.clone(), TopicDefaults::default(), 2);
    cluster.reply("create a - - @0=1,2 @1=1,2 @2=1,2");
    cluster.reply("create b - - @0=1,2");
    cluster.reply("reassign a/0=2,1 a/1=2,1 a/2=2,1");
    cluster.check(&[
        ("reassign a/0=2,1 a/1=2,1 a/2=2,1 b/0=2,1", "failed PolicyViolation"),
        ("reassign b/0=2,1", "b/0 None"),
        ("elect preferred *", "failed PolicyViolation"),
        ("elect preferred a/0 a/1 a/2 b/0", "failed PolicyViolation"),
        ("elect preferred a/0 a/1", "a/0 None\na/1 None"),
        ("elect preferred *", "a/2 None\nb/0 None"),
    ]);
}
