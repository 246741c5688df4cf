//! `corelane completions`: what a shell completes after `corelane`, from the commands themselves.

use clap::Args;
use clap_complete::Shell;

#[derive(Args)]
pub(super) struct Arguments {
    /// For bash: source <(corelane completions bash)
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments, mut command: clap::Command) -> Result<(), String> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "corelane", &mut script);
    super::target::print(&String::from_utf8_lossy(&script))
}
