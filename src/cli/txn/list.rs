//! `corelane txn list`.

use std::collections::BTreeMap;

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::json;

use super::number_or_dash;
use super::transaction::{self, Filter, Listed, STATES, Transaction, is_open};
use crate::cli::table::Table;
use crate::cli::target::Target;
use crate::cli::time;

#[derive(Args)]
pub(in crate::cli) struct List {
    /// Only those in this state; may be given several times.
    #[arg(long, ignore_case = true, value_parser = PossibleValuesParser::new(STATES))]
    state: Vec<String>,
    /// Only those of this producer; may be given several times.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(i64).range(0..))]
    producer_id: Vec<i64>,
    /// Only transactions that are open for longer than this: 90s, 15min, 2h.
    #[arg(long, value_name = "TIME", value_parser = time::length)]
    open_longer_than: Option<i64>,
    /// Only transactional ids that are this regular expression from their first to their last letter: 'checkout-.*'.
    #[arg(long, value_name = "REGEX")]
    pattern: Option<String>,
    #[command(flatten)]
    target: Target,
}

impl List {
    fn filter(&self) -> Filter {
        let as_named = |given: &String| STATES.into_iter().find(|state| state.eq_ignore_ascii_case(given));
        Filter {
            states: self.state.iter().filter_map(as_named).map(str::to_owned).collect(),
            producer_ids: self.producer_id.clone(),
            longer_than_ms: self.open_longer_than,
            pattern: self.pattern.clone(),
        }
    }

    /// What brokers leave to be filtered: they count how long ago the last transaction began, even if it has ended.
    fn wants(&self, listed: &Listed) -> bool {
        self.open_longer_than.is_none() || is_open(&listed.state)
    }
}

pub(super) fn run(arguments: &List) -> Result<(), String> {
    let mut client = arguments.target.connect()?;
    let mut all = transaction::list(&mut client, &arguments.filter())?;
    all.retain(|listed| arguments.wants(listed));
    let open = transaction::describe_all(&mut client, all.iter().filter(|listed| is_open(&listed.state)))?;
    let now_ms = time::ago(0);
    let document = || {
        let transactions = all.iter().map(|listed| {
            let open = open.get(&listed.id);
            json!({
                "transactional_id": listed.id,
                "coordinator": listed.coordinator,
                "producer_id": listed.producer_id,
                "state": listed.state,
                "open_for_ms": open.and_then(|open| open.open_for(now_ms)),
                "partitions": open.map(partitions),
            })
        });
        json!({ "transactions": transactions.collect::<Vec<_>>() })
    };
    arguments.target.tell_table(document, || table(&all, &open, now_ms))
}

fn partitions(transaction: &Transaction) -> usize {
    transaction.partitions.values().map(|indexes| indexes.len()).sum()
}

fn table(all: &[Listed], open: &BTreeMap<String, Transaction>, now_ms: i64) -> Table {
    let heads = ["TRANSACTIONAL ID", "COORDINATOR", "PRODUCER ID", "STATE", "OPEN FOR", "PARTITIONS"];
    let mut table = Table::new(&heads);
    for listed in all {
        let open = open.get(&listed.id);
        let open_for = open.and_then(|open| open.open_for(now_ms));
        table.row([
            listed.id.clone(),
            listed.coordinator.to_string(),
            listed.producer_id.to_string(),
            listed.state.clone(),
            open_for.map_or_else(|| "-".to_owned(), time::span),
            number_or_dash(open.map(|open| partitions(open) as i64)),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        list: List,
    }

    fn line(words: &str) -> Option<List> {
        Line::try_parse_from(format!("list {words}").split_whitespace()).ok().map(|line| line.list)
    }

    fn listed(id: &str, state: &str) -> Listed {
        Listed { id: id.to_owned(), producer_id: 4_711, state: state.to_owned(), coordinator: 1 }
    }

    #[test]
    fn brokers_are_asked_for_what_is_wanted() {
        assert_eq!(line("").map(|list| list.filter()), Some(Filter::default()));
        let list =
            line("--state ongoing --state PREPARECOMMIT --producer-id 7 --producer-id 8 --pattern a.*");
        let expect = Filter {
            states: ["Ongoing", "PrepareCommit"].map(str::to_owned).to_vec(),
            producer_ids: vec![7, 8],
            longer_than_ms: None,
            pattern: Some("a.*".to_owned()),
        };
        assert_eq!(list.map(|list| list.filter()), Some(expect));
        for bad in ["--state going", "--producer-id -1", "--open-longer-than soon"] {
            assert!(line(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn what_has_ended_is_not_open_for_long() {
        let list = line("--open-longer-than 15min").expect("options");
        assert_eq!(list.filter().longer_than_ms, Some(900_000));
        let open = STATES.into_iter().filter(|state| list.wants(&listed("a", state)));
        assert_eq!(
            open.collect::<Vec<_>>(),
            ["Ongoing", "PrepareCommit", "PrepareAbort", "PrepareEpochFence"]
        );
        let any = line("").expect("options");
        assert!(STATES.into_iter().all(|state| any.wants(&listed("a", state))));
    }

    #[test]
    fn the_table_has_what_is_open() {
        let all = [listed("checkout", "Ongoing"), listed("gone", "Ongoing"), listed("old", "CompleteCommit")];
        let transaction = Transaction {
            id: "checkout".to_owned(),
            coordinator: 1,
            state: "Ongoing".to_owned(),
            producer_id: 4_711,
            epoch: 0,
            timeout_ms: 60_000,
            began_ms: Some(1_000),
            partitions: [("orders".to_owned(), [0, 1].into()), ("payments".to_owned(), [7].into())].into(),
        };
        let expect = "\
TRANSACTIONAL ID  COORDINATOR  PRODUCER ID  STATE           OPEN FOR  PARTITIONS
checkout                    1         4711  Ongoing         1m 1s              3
gone                        1         4711  Ongoing         -                  -
old                         1         4711  CompleteCommit  -                  -
";
        let table = table(&all, &[("checkout".to_owned(), transaction)].into(), 62_500);
        assert_eq!(table.text(), expect);
    }
}
