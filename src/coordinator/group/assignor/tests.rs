use super::*;
use crate::coordinator::group::testing::Random;
use std::collections::BTreeSet;

/// A group as a test changes it, and what its members have.
#[derive(Clone, Debug, Default)]
struct Group {
    /// By member: instance id, topics.
    members: BTreeMap<String, (Option<String>, Vec<TopicId>)>,
    partition_counts: BTreeMap<TopicId, i32>,
    targets: BTreeMap<String, Partitions>,
}

impl Group {
    fn assign(&mut self, assignor: &str) {
        let nothing = Partitions::new();
        let subscribed: BTreeSet<TopicId> =
            self.members.values().flat_map(|(_, topics)| topics.iter().copied()).collect();
        let members = self.members.iter().map(|(id, (instance, topics))| Subscriber {
            id,
            instance: instance.as_deref(),
            topics: topics.as_slice().into(),
            target: self.targets.get(id).unwrap_or(&nothing),
        });
        let spec = Spec {
            members: members.collect(),
            partition_counts: subscribed.iter().map(|id| (*id, self.partition_counts[id])).collect(),
        };
        let assigned = find(assignor).unwrap().assign(&spec);
        assert_eq!(assigned.len(), self.members.len());
        self.targets = self.members.keys().cloned().zip(assigned).collect();
        self.check();
    }

    /// Each partition that somebody subscribes to is with one subscriber.
    fn check(&self) {
        let mut owners = BTreeMap::new();
        for (member, target) in &self.targets {
            for (topic, partitions) in target {
                assert!(self.members[member].1.contains(topic), "{member} has what it does not subscribe to");
                assert!(!partitions.is_empty() && partitions.is_sorted());
                for partition in partitions {
                    let before = owners.insert((*topic, *partition), member);
                    assert_eq!(before, None, "{topic}-{partition} is twice");
                }
            }
        }
        let subscribed: BTreeSet<TopicId> =
            self.members.values().flat_map(|(_, topics)| topics.iter().copied()).collect();
        let all = subscribed.iter().flat_map(|id| (0..self.partition_counts[id]).map(|index| (*id, index)));
        assert_eq!(owners.keys().copied().collect::<Vec<_>>(), all.collect::<Vec<_>>());
    }

    fn size(&self, member: &str) -> usize {
        self.targets[member].values().map(Vec::len).sum()
    }

    /// Partitions that are with another member than before, of those that had one which is still there.
    fn moved_from(&self, before: &Group) -> usize {
        let of = |group: &Group, member: &str| -> BTreeSet<(TopicId, i32)> {
            let target = group.targets.get(member).into_iter().flatten();
            target.flat_map(|(topic, partitions)| partitions.iter().map(|index| (*topic, *index))).collect()
        };
        let kept = |member: &String| self.members.contains_key(member);
        let lost = before.members.keys().filter(|member| kept(member));
        lost.map(|member| of(before, member).difference(&of(self, member)).count()).sum()
    }
}

fn topic(number: u64) -> TopicId {
    TopicId(u128::from(number) + 1)
}

/// So many topics of 1 to 12 partitions, and members who all read all of them.
fn homogeneous(random: &mut Random, topics: u64, members: u64) -> Group {
    let mut group = Group::default();
    for number in 0..topics {
        let count = i32::try_from(random.below(12)).unwrap() + 1;
        group.partition_counts.insert(topic(number), count);
    }
    let all: Vec<TopicId> = group.partition_counts.keys().copied().collect();
    for number in 0..members {
        group.members.insert(format!("m{number:03}"), (None, all.clone()));
    }
    group
}

#[test]
fn uniform_gives_everybody_the_same_number_and_moves_no_more_than_it_must() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let (topics, members) = (random.below(8) + 1, random.below(20) + 2);
        let mut group = homogeneous(&mut random, topics, members);
        group.assign("uniform");
        for step in 0..6 {
            let before = group.clone();
            let total: usize =
                group.partition_counts.values().map(|count| usize::try_from(*count).unwrap()).sum();
            let leaver = group.members.keys().nth(random.below(group.members.len() as u64) as usize).cloned();
            // how many partitions have to move from members who stay
            let must_move = match random.below(3) {
                0 if group.members.len() > 1 => {
                    let leaver = leaver.unwrap();
                    group.members.remove(&leaver);
                    group.targets.remove(&leaver);
                    0
                }
                1 => {
                    let all = group.partition_counts.keys().copied().collect();
                    group.members.insert(format!("n{step}"), (None, all));
                    total / group.members.len()
                }
                _ => 0,
            };
            group.assign("uniform");
            let sizes: Vec<usize> = group.members.keys().map(|member| group.size(member)).collect();
            assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "seed {seed}: {sizes:?}");
            let moved = group.moved_from(&before);
            assert!(moved <= must_move, "seed {seed}, step {step}: {moved} moved where {must_move} must");
        }
    }
}

#[test]
fn uniform_balances_where_subscriptions_differ() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let (topics, members) = (random.below(8) + 2, random.below(15) + 2);
        let mut group = homogeneous(&mut random, topics, members);
        for round in 0..4 {
            for (_, subscription) in group.members.values_mut() {
                if round == 0 || random.chance(20) {
                    *subscription =
                        group.partition_counts.keys().copied().filter(|_| random.chance(50)).collect();
                }
            }
            if random.chance(30) {
                *group.partition_counts.values_mut().next().unwrap() += 3;
            }
            group.assign("uniform");
            for (member, target) in &group.targets {
                for (other, (_, subscription)) in &group.members {
                    let could_take = target.keys().any(|topic| subscription.contains(topic));
                    assert!(
                        !could_take || group.size(member) <= group.size(other) + 1,
                        "seed {seed}: {member} has {}, {other} {}",
                        group.size(member),
                        group.size(other)
                    );
                }
            }
            // what is balanced stays
            let before = group.clone();
            group.assign("uniform");
            assert_eq!(group.moved_from(&before), 0, "seed {seed}");
        }
    }
}

/// A target that the log should not have: topics that are gone, partitions that are not there, one of two members.
#[test]
fn a_target_that_makes_no_sense_is_not_kept() {
    for subscriptions in [[1, 1], [1, 2]] {
        let partition_counts = BTreeMap::from([(topic(1), 4), (topic(2), 2)]);
        let mut group = Group { partition_counts, ..Group::default() };
        group.members.insert("a".to_owned(), (None, vec![topic(1)]));
        group.members.insert("b".to_owned(), (None, (1..=subscriptions[1]).map(topic).collect()));
        let wrong = Partitions::from([(topic(1), vec![-1, 0, 1, 2, 3, 4, 1_000_000]), (topic(9), vec![0])]);
        group.targets = BTreeMap::from([("a".to_owned(), wrong.clone()), ("b".to_owned(), wrong)]);
        group.assign("uniform");
        assert!(group.size("a").abs_diff(group.size("b")) <= 1 || subscriptions[1] == 2);
    }
}

#[test]
fn range_gives_the_same_ranges_of_topics_that_are_alike() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let (topics, members) = (random.below(6) + 1, random.below(9) + 1);
        let mut group = homogeneous(&mut random, topics, members);
        let count = i32::try_from(random.below(12)).unwrap() + 1;
        group.partition_counts.values_mut().for_each(|of_topic| *of_topic = count);
        group.assign("range");
        for target in group.targets.values() {
            let ranges: BTreeSet<&Vec<i32>> = target.values().collect();
            assert!(ranges.len() <= 1, "seed {seed}: {target:?}");
            assert!(target.is_empty() || target.len() == group.partition_counts.len());
            for range in ranges {
                assert!(range.windows(2).all(|pair| pair[0] + 1 == pair[1]), "seed {seed}: {range:?}");
            }
        }
        let sizes: Vec<usize> =
            group.targets.values().map(|target| target.values().map(Vec::len).max().unwrap_or(0)).collect();
        assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "seed {seed}: {sizes:?}");
    }
}

#[test]
fn range_goes_by_each_topics_own_subscribers() {
    let partition_counts = BTreeMap::from([(topic(1), 5), (topic(2), 3)]);
    let mut group = Group { partition_counts, ..Group::default() };
    group.members.insert("a".to_owned(), (None, vec![topic(1)]));
    group.members.insert("b".to_owned(), (None, vec![topic(1), topic(2)]));
    group.members.insert("c".to_owned(), (None, vec![topic(2)]));
    group.assign("range");
    assert_eq!(group.targets["a"], Partitions::from([(topic(1), vec![0, 1, 2])]));
    assert_eq!(group.targets["b"], Partitions::from([(topic(1), vec![3, 4]), (topic(2), vec![0, 1])]));
    assert_eq!(group.targets["c"], Partitions::from([(topic(2), vec![2])]));
}

/// Static members come back under other ids and have what they had; dynamic ones are behind them.
#[test]
fn range_keeps_static_members_in_their_places() {
    let partition_counts = BTreeMap::from([(topic(1), 3)]);
    let mut group = Group { partition_counts, ..Group::default() };
    for (member, instance) in [("x", Some("i1")), ("y", Some("i2")), ("a", None)] {
        group.members.insert(member.to_owned(), (instance.map(str::to_owned), vec![topic(1)]));
    }
    group.assign("range");
    let first = Partitions::from([(topic(1), vec![0])]);
    assert_eq!((&group.targets["x"], &group.targets["a"][&topic(1)]), (&first, &vec![2]));
    let instance = group.members.remove("x").unwrap();
    group.members.insert("zz".to_owned(), instance);
    group.assign("range");
    assert_eq!(group.targets["zz"], first);
}

#[test]
fn nobody_gets_nothing() {
    for name in ["uniform", "range"] {
        let spec = Spec { members: Vec::new(), partition_counts: BTreeMap::new() };
        assert!(find(name).unwrap().assign(&spec).is_empty());
        let mut group = Group::default();
        group.members.insert("a".to_owned(), (None, Vec::new()));
        group.partition_counts.insert(topic(1), 0);
        group.members.insert("b".to_owned(), (None, vec![topic(1)]));
        group.assign(name);
        assert!(group.targets.values().all(Partitions::is_empty));
    }
    assert!(find("cooperative-sticky").is_none());
}
