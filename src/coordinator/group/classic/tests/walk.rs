//! Clients that do anything at any time: nothing panics, every request is answered once, the log holds what there is (the
//! driver looks after every step), and when they behave again they have a stable group.

use super::*;

struct Walk {
    driver: Driver,
    state: u64,
    /// Ids that were seen.
    ids: Vec<String>,
    joins: Vec<Ticket>,
}

impl Walk {
    fn below(&mut self, end: usize) -> usize {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) as usize % end
    }

    fn id(&mut self) -> String {
        match self.below(self.ids.len() + 2) {
            0 => String::new(),
            1 => "nobody".to_owned(),
            place => self.ids[place - 2].clone(),
        }
    }

    fn instance(&mut self) -> Option<StrBytes> {
        [None, None, Some("i"), Some("j")][self.below(4)].map(text)
    }

    fn generation(&mut self) -> i32 {
        let coordinator = &self.driver.coordinator;
        let members = coordinator.groups.get("g").map(|group| &group.members);
        let current = match members {
            Some(super::super::super::Members::Classic(members)) => members.generation(),
            _ => 0,
        };
        if self.below(5) == 0 { current - 1 } else { current }
    }

    fn join(&mut self) {
        let version = self.below(10) as i16;
        let named: [&[(&str, &[u8])]; 4] = [
            &[("a", b"1"), ("b", b"1")],
            &[("b", b"1")],
            &[("a", b"2"), ("b", b"1")],
            &[("b", b"2"), ("c", b"2")],
        ];
        let named = named[self.below(4)];
        let instance = if version >= 5 { self.instance() } else { None };
        let request = join_request(&self.id())
            .with_group_instance_id(instance)
            .with_protocols(protocols(named))
            .with_rebalance_timeout_ms([-1, 0, 8_000, 60_000][self.below(4)]);
        let ticket = self.driver.join(version, request);
        self.joins.push(ticket);
    }

    fn sync(&mut self) {
        let id = self.id();
        let assigned: Vec<_> = self.ids.iter().map(|id| (id.as_str(), "x")).collect();
        let request = sync_request(&id, 0).with_assignments(assignments(&assigned));
        let request = request.with_generation_id(self.generation()).with_group_instance_id(self.instance());
        self.driver.sync(3, request);
    }

    fn step(&mut self) {
        match self.below(16) {
            0..5 => self.join(),
            5..9 => self.sync(),
            9..11 => {
                let (id, generation) = (self.id(), self.generation());
                self.driver.heartbeat(&id, generation);
            }
            11 => {
                let (id, instance) = (self.id(), self.instance());
                self.driver.leave_all(vec![identity(&id, instance.as_deref())]);
            }
            12 => {
                let wait = [1, 500, 3_000, 9_000][self.below(4)];
                self.driver.pass(wait);
            }
            13 if self.below(20) == 0 => {
                self.driver.restart();
                self.joins.clear();
            }
            _ => {
                let wait = 100 * self.below(10) as u64;
                self.driver.pass(wait);
            }
        }
        for ticket in std::mem::take(&mut self.joins) {
            if self.driver.is_waiting(ticket) {
                self.joins.push(ticket);
                continue;
            }
            let joined = self.driver.joined(ticket);
            if !joined.member_id.is_empty() && !self.ids.contains(&joined.member_id.to_string()) {
                self.ids.push(joined.member_id.to_string());
            }
        }
        if self.ids.len() > 8 {
            self.ids.remove(0);
        }
    }
}

#[test]
fn clients_may_do_anything() {
    for seed in 0..60 {
        let driver = Driver::new(Settings { max_size: 4, ..Settings::default() });
        let mut walk = Walk { driver, state: seed, ids: Vec::new(), joins: Vec::new() };
        for _ in 0..400 {
            walk.step();
        }
        let mut driver = walk.driver;
        driver.all_are_answered();
        let tickets: Vec<_> = (0..3).map(|_| driver.join(3, join_request(""))).collect();
        driver.pass(2 * INITIAL_DELAY_MS);
        assert_eq!(driver.finish(tickets).members.len(), 3, "seed {seed}");
    }
}
