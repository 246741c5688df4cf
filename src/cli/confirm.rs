//! Asking before something is gone.

use std::io::{self, BufRead as _, IsTerminal as _};

/// Whether it was said beforehand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    Yes,
    Nothing,
}

impl From<bool> for Said {
    fn from(yes: bool) -> Said {
        if yes { Said::Yes } else { Said::Nothing }
    }
}

/// Asks on a terminal. Where nobody can be asked it must have been said.
pub(super) fn confirm(said: Said, question: &str) -> Result<(), String> {
    if said == Said::Yes {
        return Ok(());
    }
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(format!("{question}: nobody is at a terminal to be asked; --yes does it without"));
    }
    eprint!("{question}? [y/N] ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(|error| format!("cannot read the answer: {error}"))?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err("nothing was done".to_owned()),
    }
}
