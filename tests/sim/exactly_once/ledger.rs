//! What clients have asked for and been told, and so what readers may see.

use std::collections::{BTreeMap, BTreeSet};

use super::Part;

/// A transaction's place in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(pub usize);

/// A record, by what is in it: of which transaction, and the how many'th of its partition.
pub type Found = (Id, u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nobody has asked for its commit, or it was refused.
    Private,
    /// It was asked for, and is not answered.
    Asked,
    Committed,
}

#[derive(Debug)]
struct Transaction {
    client: u64,
    fate: Fate,
    /// How many records were answered, where some were.
    parts: BTreeMap<Part, u32>,
    /// What is in it of the client's group: the offset is the transaction's number.
    has_offsets: bool,
    /// How many of them readers have seen: what is open in between keeps them from the rest.
    seen: BTreeMap<Part, u32>,
}

/// All transactions there were, in the order in which they began.
#[derive(Debug, Default)]
pub struct Ledger {
    transactions: Vec<Transaction>,
    /// Topics that were removed, or may be.
    gone: BTreeSet<String>,
}

impl Ledger {
    pub fn begin(&mut self, client: u64) -> Id {
        self.transactions.push(Transaction {
            client,
            fate: Fate::Private,
            parts: BTreeMap::new(),
            has_offsets: false,
            seen: BTreeMap::new(),
        });
        Id(self.transactions.len() - 1)
    }

    /// Records in it so far.
    pub fn records(&self, id: Id, part: &Part) -> u32 {
        self.transactions[id.0].parts.get(part).copied().unwrap_or(0)
    }

    pub fn wrote(&mut self, id: Id, part: &Part, records: u32) {
        if !self.gone.contains(&part.0) {
            *self.transactions[id.0].parts.entry(part.clone()).or_default() += records;
        }
    }

    pub fn committed_offsets(&mut self, id: Id) {
        self.transactions[id.0].has_offsets = true;
    }

    pub fn asks_for_commit(&mut self, id: Id) {
        self.transactions[id.0].fate = Fate::Asked;
    }

    pub fn is_committed(&mut self, id: Id) {
        self.transactions[id.0].fate = Fate::Committed;
    }

    /// Its only request to commit was refused.
    pub fn is_refused(&mut self, id: Id) {
        self.transactions[id.0].fate = Fate::Private;
    }

    /// Nobody reads it any more, whether it goes or not.
    pub fn topic_goes(&mut self, topic: &str) {
        self.gone.insert(topic.to_owned());
        for transaction in &mut self.transactions {
            transaction.parts.retain(|(name, _), _| name != topic);
            transaction.seen.retain(|(name, _), _| name != topic);
        }
    }

    pub fn is_gone(&self, topic: &str) -> bool {
        self.gone.contains(topic)
    }

    /// What a reader finds in a partition, from its start to where it may not read on. `is_all`: nothing is on its way any
    /// more.
    pub fn check(&mut self, part: &Part, found: &[Found], is_all: bool) -> Result<(), String> {
        let mut records: BTreeMap<Id, Vec<u32>> = BTreeMap::new();
        let mut last: BTreeMap<u64, Id> = BTreeMap::new();
        for &(id, record) in found {
            let transaction = self.transactions.get(id.0).ok_or("a transaction that there is not")?;
            if let Some(before) = last.insert(transaction.client, id)
                && before > id
            {
                return Err(format!("{id:?} is behind {before:?} of the same client"));
            }
            records.entry(id).or_default().push(record);
        }
        for (id, found) in &records {
            let transaction = &self.transactions[id.0];
            if transaction.fate == Fate::Private {
                return Err(format!("{id:?} is seen, and was never to be committed: {transaction:?}"));
            }
            let written = transaction.parts.get(part).copied().unwrap_or(0);
            let count = u32::try_from(found.len()).expect("few");
            let are_in_order = found.iter().copied().eq(0..count);
            if !are_in_order || count > written || (is_all && count < written) {
                return Err(format!("of {id:?} {found:?} are seen of {written}: {transaction:?}"));
            }
        }
        for (at, transaction) in self.transactions.iter_mut().enumerate() {
            let now = records.get(&Id(at)).map_or(0, |found| u32::try_from(found.len()).expect("few"));
            if now < transaction.seen.get(part).copied().unwrap_or(0) {
                return Err(format!("of {at} only {now} are seen now: {transaction:?}"));
            }
            let is_missing = is_all && now == 0 && transaction.parts.contains_key(part);
            if is_missing && transaction.fate == Fate::Committed {
                return Err(format!("{at} is not seen: {transaction:?}"));
            }
            if now > 0 {
                transaction.seen.insert(part.clone(), now);
            }
        }
        Ok(())
    }

    /// When every partition was checked, and nothing is on its way.
    pub fn check_whole(&self) -> Result<(), String> {
        for (at, transaction) in self.transactions.iter().enumerate() {
            let is_part = !transaction.seen.is_empty() && transaction.seen.len() < transaction.parts.len();
            if is_part {
                return Err(format!("{at} is torn: {transaction:?}"));
            }
        }
        Ok(())
    }

    /// A client's offset, as its group has it now and nothing is pending; `None`: there is none. `answered` was the
    /// last that was answered when the question was asked ([`Self::last_answered`]).
    pub fn check_offset(
        &self,
        client: u64,
        offset: Option<Id>,
        answered: Option<Id>,
        is_all: bool,
    ) -> Result<(), String> {
        if let Some(id) = offset {
            let transaction = &self.transactions[id.0];
            let may_be = transaction.client == client && transaction.fate != Fate::Private;
            if !may_be {
                return Err(format!("the offset is of {id:?}, which is not committed: {transaction:?}"));
            }
        }
        if offset < answered {
            return Err(format!("the offset is of {offset:?}, but {answered:?} was committed"));
        }
        let with_offsets = |(_, transaction): &(usize, &Transaction)| {
            transaction.client == client && transaction.has_offsets && !transaction.seen.is_empty()
        };
        let seen = self.transactions.iter().enumerate().rfind(with_offsets);
        if is_all && seen.is_some_and(|(at, _)| offset < Some(Id(at))) {
            return Err(format!("the offset is of {offset:?}, but the records of {seen:?} are seen"));
        }
        // the other way round, where its records can still be seen
        if let Some(id) = offset {
            let transaction = &self.transactions[id.0];
            if is_all && !transaction.parts.is_empty() && transaction.seen.is_empty() {
                return Err(format!("the offset is of {id:?}, whose records are not seen: {transaction:?}"));
            }
        }
        Ok(())
    }

    /// Of those that have offsets in them.
    pub fn last_answered(&self, client: u64) -> Option<Id> {
        let committed = |transaction: &Transaction| {
            transaction.client == client && transaction.has_offsets && transaction.fate == Fate::Committed
        };
        self.transactions.iter().rposition(committed).map(Id)
    }
}
