//! `corelane txn` against Apache Kafka and against corelane, with the same expectations: transactions in every state, and
//! two that hang, found and aborted.

use serde_json::{Value, json};

use crate::harness::{Setup, TempDir, free_port};
use crate::install::kafka;
use crate::people::{People, row};
use crate::scene::{Producer, Scene, stable_offset, wait_for_stable};
use crate::wire::Wire;

#[test]
fn the_transaction_commands_work_against_kafka() {
    let scratch = TempDir::new();
    let port = free_port();
    let broker = kafka().start(port, free_port(), &scratch.path().join("kafka"), None).expect("Kafka starts");
    work(&People { bootstrap: format!("127.0.0.1:{port}") });
    broker.stop().expect("Kafka stops");
}

#[test]
fn the_transaction_commands_work_against_corelane() {
    let mut broker = Setup::new().shards(2).start();
    work(&People { bootstrap: broker.bootstrap().to_owned() });
    broker.stop();
}

fn work(people: &People) {
    assert_eq!(people.json("txn list"), json!({ "transactions": [] }));
    let mut scene = Scene::make(&people.bootstrap);
    listed(people, &scene);
    described(people, &scene);
    producers(people, &scene);
    what_hangs_is_found(people, &scene);
    what_does_not_hang_is_left_alone(people);
    what_hangs_is_aborted(people, &scene);
    force(people);
    // the one that was open all the time is whole
    let mut wire = Wire::connect(&people.bootstrap);
    assert_eq!(stable_offset(&mut wire, 0), Ok(3));
    scene.open.end(true);
    wait_for_stable(&mut wire, 0, 6);
}

impl People {
    /// Of each that is listed with these filters: transactional id, state.
    fn transactions(&self, filters: &str) -> Vec<(String, String)> {
        let told = self.json(&format!("txn list{filters}"));
        let listed = told["transactions"].as_array().expect("transactions");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        listed.iter().map(|one| (text(&one["transactional_id"]), text(&one["state"]))).collect()
    }
}

fn listed(people: &People, scene: &Scene) {
    let all = [
        ("shop-done", "CompleteCommit"),
        ("shop-failed", "CompleteAbort"),
        ("shop-idle", "Empty"),
        ("shop-late", "CompleteCommit"),
        ("shop-open", "Ongoing"),
    ];
    let check = |filters: &str, wanted: &[usize]| {
        let expect: Vec<(String, String)> =
            wanted.iter().map(|&index| (all[index].0.to_owned(), all[index].1.to_owned())).collect();
        assert_eq!(people.transactions(filters), expect, "{filters}");
    };
    check("", &[0, 1, 2, 3, 4]);
    check(" --state ongoing", &[4]);
    check(" --state CompleteAbort --state empty", &[1, 2]);
    check(&format!(" --producer-id {}", scene.late.id), &[3]);
    check(" --pattern shop-.*e", &[0, 2, 3]);
    check(" --pattern shop", &[]);
    // what has ended long ago is not open for long
    check(" --open-longer-than 0s", &[4]);
    check(" --open-longer-than 1h", &[]);
    let (_, bad) = people.refused("txn list --pattern (");
    assert!(bad.contains("INVALID_REGULAR_EXPRESSION (error 128): it is no regular expression"), "{bad}");

    let table = people.run("txn list");
    let id = scene.open.id.to_string();
    let open = row(&table, &["shop-open"]);
    assert_eq!((&open[..4], open.last()), (&["shop-open", "1", &id, "Ongoing"][..], Some(&"2")), "{table}");
    assert_eq!(row(&table, &["shop-idle"])[3..], ["Empty", "-", "-"]);
}

fn described(people: &People, scene: &Scene) {
    let told = people.json("txn describe shop-open shop-done");
    let (open, done) = (&told["transactions"][0], &told["transactions"][1]);
    for (key, expect) in [
        ("transactional_id", json!("shop-open")),
        ("state", json!("Ongoing")),
        ("producer_id", json!(scene.open.id)),
        ("producer_epoch", json!(0)),
        ("timeout_ms", json!(600_000)),
        ("coordinator", json!(1)),
    ] {
        assert_eq!(open[key], expect, "{told}");
    }
    assert!(open["began_ms"].is_i64() && open["open_for_ms"].is_i64(), "{told}");
    let places: Vec<[&Value; 3]> = (open["partitions"].as_array().expect("partitions").iter())
        .map(|one| ["topic", "partition", "start_offset"].map(|key| &one[key]))
        .collect();
    let (topic, none) = (json!("orders"), Value::Null);
    assert_eq!(places, [[&topic, &json!(0), &json!(3)], [&topic, &json!(4), &none]]);
    assert_eq!((&done["state"], &done["partitions"]), (&json!("CompleteCommit"), &json!([])));
    assert_eq!(done["open_for_ms"], none);

    let text = people.run("txn describe shop-open");
    assert!(
        text.starts_with("shop-open: Ongoing for ") && text.contains(", timeout 10m, began 20"),
        "{text}"
    );
    assert_eq!(row(&text, &["orders", "0"])[2], "3");
    let (_, near) = people.refused("txn describe shop-opem");
    assert_eq!(near, "no producer has the transactional id shop-opem, did you mean shop-open?");
    let (_, unknown) = people.refused("txn describe nobody");
    assert_eq!(
        unknown,
        "no producer has the transactional id nobody; `corelane txn list` shows those that there are"
    );
}

fn producers(people: &People, scene: &Scene) {
    let text = people.run("txn describe --topic orders");
    assert!(text.starts_with("orders: 5 partitions, 6 producers, 3 open transactions\n"), "{text}");
    let told = people.json("txn describe --topic orders --partition 2,4");
    let partitions = told["partitions"].as_array().expect("partitions");
    assert_eq!(partitions.len(), 2);
    let late = &partitions[0]["producers"][0];
    for (key, expect) in [
        ("producer_id", json!(scene.late.id)),
        ("producer_epoch", json!(0)),
        ("coordinator_epoch", json!(0)),
        ("last_sequence", json!(3)),
        ("start_offset", json!(3)),
    ] {
        assert_eq!(late[key], expect, "{told}");
    }
    assert!(late["last_written_ms"].as_i64().is_some_and(|ms| ms > 1_700_000_000_000), "{told}");
    assert_eq!(partitions[1]["producers"], json!([]));
    let (_, missing) = people.refused("txn describe --topic orders --partition 5");
    assert_eq!(missing, "topic orders has no partition 5: it has 0 to 4");
    let (_, near) = people.refused("txn describe --topic order");
    assert_eq!(near, "topic order does not exist, did you mean orders?");
}

/// Partition, start offset and reason.
fn hanging(people: &People, words: &str) -> Vec<(Value, Value, String)> {
    let told = people.json(&format!("txn find-hanging --max-transaction-timeout 0s{words}"));
    assert_eq!(told["not_looked_at"], json!([]));
    let hanging = told["hanging"].as_array().expect("hanging ones").clone();
    let one = |one: &Value| {
        let why = one["why"].as_str().expect("text").to_owned();
        (one["partition"].clone(), one["start_offset"].clone(), why)
    };
    hanging.iter().map(one).collect()
}

fn late() -> (Value, Value, String) {
    (json!(2), json!(3), "shop-late is CompleteCommit without it".to_owned())
}

fn of_nobody() -> (Value, Value, String) {
    (json!(3), json!(0), "no transactional id has this producer".to_owned())
}

fn what_hangs_is_found(people: &People, scene: &Scene) {
    for everywhere in ["", " --broker all", " --broker 1", " --topic orders"] {
        assert_eq!(hanging(people, everywhere), [late(), of_nobody()], "{everywhere}");
    }
    assert_eq!(hanging(people, " --topic orders --partition 2"), [late()]);
    assert_eq!(hanging(people, " --topic orders --partition 0-1,4"), []);
    // it is too soon to say
    let young = people.run("txn find-hanging --topic orders");
    assert_eq!(young, "nothing hangs: 5 partitions looked at, 3 open transactions in them\n");
    let text = people.run("txn find-hanging --max-transaction-timeout 0s -T orders");
    let id = scene.nobody.id.to_string();
    assert_eq!(row(&text, &["orders", "3"])[2..6], ["0", &id, "0", "-"]);
    assert!(text.contains("\n2 transactions hang (5 partitions looked at, 3 open "), "{text}");
    for command in ["--partition 2 --start-offset 3", "--partition 3 --start-offset 0"] {
        assert!(text.contains(&format!("\n  corelane txn abort --topic orders {command}\n")), "{text}");
    }
    let (_, missing) = people.refused("txn find-hanging --broker 9");
    assert!(missing.starts_with("broker 9 is not in the cluster now; "), "{missing}");
}

fn what_does_not_hang_is_left_alone(people: &People) {
    let refused = |words: &str| people.refused(&format!("txn abort --topic orders {words}")).1;
    let alive = refused("--partition 0 --start-offset 3 --yes");
    assert_eq!(
        alive,
        "orders partition 0: the transaction from offset 3 does not hang, shop-open is Ongoing with it; its coordinator \
         ends it (timeout 10m), --force aborts it here alone; nothing was done"
    );
    let elsewhere = refused("--partition 3 --start-offset 1 --yes");
    assert_eq!(
        elsewhere,
        "orders partition 3: no transaction is open from offset 1; one is open there, from offset 0, nothing was done"
    );
    let ended = refused("--partition 1 --start-offset 0 --yes");
    assert!(ended.ends_with("from offset 0; none is open there, nothing was done"), "{ended}");
    let unsaid = refused("--partition 3 --start-offset 0");
    assert!(unsaid.starts_with("orders partition 3: abort the transaction of producer "), "{unsaid}");
    assert!(unsaid.ends_with(": nobody is at a terminal to be asked; --yes does it without"), "{unsaid}");
    let missing = refused("--partition 7 --start-offset 0 --yes");
    assert_eq!(missing, "topic orders has no partition 7: it has 0 to 4");
    assert_eq!(hanging(people, ""), [late(), of_nobody()]);
}

fn what_hangs_is_aborted(people: &People, scene: &Scene) {
    let mut wire = Wire::connect(&people.bootstrap);
    assert_eq!((stable_offset(&mut wire, 2), stable_offset(&mut wire, 3)), (Ok(3), Ok(0)));
    let done = people.run("txn abort --topic orders --partition 3 --start-offset 0 --yes");
    assert_eq!(
        done,
        format!(
            "orders partition 3: aborted the transaction of producer {} from offset 0; none is open there\n",
            scene.nobody.id
        )
    );
    wait_for_stable(&mut wire, 3, 3);
    assert_eq!(hanging(people, ""), [late()]);

    let by_producer = |epoch: i16| {
        let id = scene.late.id;
        format!("--producer-id {id} --producer-epoch {epoch} --coordinator-epoch 0 --yes")
    };
    let done = people.json(&format!("txn abort --topic orders --partition 2 {}", by_producer(0)));
    assert_eq!((&done["start_offset"], &done["still_open_from"]), (&json!(3), &json!([])));
    wait_for_stable(&mut wire, 2, 6);
    assert_eq!(hanging(people, ""), []);
    let (_, over) = people.refused(&format!("txn abort --topic orders --partition 2 {}", by_producer(0)));
    assert!(over.contains("has no open transaction; none is open there, nothing was done"), "{over}");
}

/// In one of the partitions of a transaction that goes on.
fn force(people: &People) {
    let mut wire = Wire::connect(&people.bootstrap);
    let mut forced = Producer::new(&people.bootstrap, "shop-forced");
    forced.add(&[1, 4]);
    forced.produce(1);
    forced.produce(4);
    let abort = "txn abort --topic orders --partition 1 --start-offset 6 --yes";
    let (_, alive) = people.refused(abort);
    assert!(alive.contains("does not hang, shop-forced is Ongoing with it"), "{alive}");
    people.run(&format!("{abort} --force"));
    wait_for_stable(&mut wire, 1, 9);
    assert_eq!(stable_offset(&mut wire, 4), Ok(0));
    forced.end(true);
    wait_for_stable(&mut wire, 4, 3);
}
