//! The `hopspan` command: argv to a running sidecar or viewer, and exit codes.

// The binary's modules are no API; `pub` says which floor of `cli` uses them.
#![allow(unreachable_pub)]

mod cli;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Run(args) => cli::run::run(*args),
        Command::Check { file } => cli::check::check(&file),
        Command::View(args) => cli::view::view(&args),
        Command::Trace(args) => cli::view::trace(args),
        Command::Reload(args) => cli::ask::reload(&args.admin),
        Command::Drain { admin, wait } => cli::ask::drain(&admin.admin, wait),
        Command::Doctor(args) => cli::doctor::doctor(args),
        Command::Explain { code } => cli::doctor::explain(code),
        Command::Health { status } => cli::ask::health(&status),
    }
}
