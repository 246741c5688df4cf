//! Full journal files are drained, flushed where they were drained to, and made free, oldest first.

use std::cell::Cell;
use std::rc::{Rc, Weak};

use super::{Journal, JournalFile};
use crate::reactor::{self, now};
use crate::storage::concurrent::Lanes;
use crate::storage::directory::Directory;
use crate::storage::drain;
use crate::storage::shard::Shard;
use crate::storage::state::LogState;

/// Logs drained side by side.
const CONCURRENT_LOGS: usize = 64;

/// Recycles what is full until nothing is, or the directory has failed.
pub async fn run(shard: Rc<Shard>, directory: Rc<Directory>) {
    let _background = shard.background();
    let Some(journal) = &directory.journal else { return };
    let mut lanes = Lanes::new(CONCURRENT_LOGS);
    loop {
        let oldest = journal.state.borrow().full.front().cloned();
        let Some(oldest) = oldest else { break };
        if !drained(&shard, journal, &mut lanes, &oldest).await {
            // the directory is offline: what is in the file is in no segment
            return;
        }
        if let Err(error) = oldest.begin_life().await {
            directory.fail(&shard, "cannot begin a journal file anew", &error);
            return;
        }
        let state = &mut *journal.state.borrow_mut();
        state.free.extend(state.full.pop_front());
        journal.freed.notify();
    }
    journal.state.borrow_mut().recycling = false;
}

/// Makes one file more. Without room for it, those that there are have to do.
pub async fn make_next(shard: Rc<Shard>, directory: Rc<Directory>) {
    let _background = shard.background();
    let Some(journal) = &directory.journal else { return };
    let made = journal.make_file(&shard).await;
    journal.state.borrow_mut().making = false;
    match made {
        Ok(file) => journal.state.borrow_mut().free.push_back(file),
        Err(error) if reactor::is_shortage(&error) => {}
        Err(error) => directory.fail(&shard, "cannot make a file of the commit journal", &error),
    }
    journal.freed.notify();
}

/// Every log with batches in the file has them in its segments, flushed. One after the other as long as there is time.
async fn drained(shard: &Shard, journal: &Journal, lanes: &mut Lanes, file: &JournalFile) -> bool {
    let logs: Vec<Rc<LogState>> = file.logs.borrow().iter().filter_map(Weak::upgrade).collect();
    let failed = Cell::new(false);
    let settle = |log: &Rc<LogState>| {
        let (log, failed) = (Rc::clone(log), &failed);
        async move { failed.set(failed.get() | drain::settle(&log).await.is_err()) }
    };
    let mut left = logs.iter();
    while !journal.is_pressed(shard) && !failed.get() {
        let Some(log) = left.next() else { break };
        let began = now();
        settle(log).await;
        journal.rest_after(began, shard).await;
    }
    lanes.run(left.map(settle)).await;
    let drained = !failed.get() && logs.iter().all(|log| !log.directory.is_offline());
    if drained {
        file.logs.borrow_mut().clear();
    }
    drained
}
