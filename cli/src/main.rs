//! `autonat`: `check` tells whether strangers can reach this machine, `serve` finds that out for others.

mod check;
mod serve;
mod signals;
mod terminal;
mod transport;

use std::{ffi::OsString, io, process::ExitCode};

use clap::{ArgMatches, ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

/// Can strangers reach this machine over libp2p? AutoNAT v2 on the command line.
#[derive(Debug, Parser)]
#[command(name = "autonat", version, arg_required_else_help = true)]
struct Cli {
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: ColorChoice,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Args),
    Serve(Box<serve::Args>),
    /// Print the completions of a shell: source them, or put them where your shell looks for them
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print a manual page: pipe it to `man -l -`, or put it where `man` looks for it
    Man {
        /// The command that it is about [default: all of `autonat`]
        command: Option<String>,
    },
}

fn main() -> ExitCode {
    let given: Vec<OsString> = std::env::args_os().collect();
    let matches = Cli::command().get_matches_from(&given);
    let matches = match with_config_file(given, matches) {
        Ok(matches) => matches,
        Err(mistake) => {
            terminal::complain(&mistake);
            return ExitCode::from(2);
        }
    };
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    terminal::set_color(cli.color);
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(io::stderr)
        .init();
    match cli.command {
        Command::Check(args) => {
            if let Err(mistake) = args.check() {
                // As clap tells of the mistakes that it finds.
                let mut command = Cli::command();
                command.build();
                let check = command.find_subcommand_mut("check");
                let command = check.map_or_else(Cli::command, |check| check.clone());
                mistake.exit(command);
            }
            check::main(args)
        }
        Command::Serve(args) => serve::main(&args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "autonat", &mut io::stdout());
            ExitCode::SUCCESS
        }
        Command::Man { command } => manual(command.as_deref()),
    }
}

/// What was given, and what the file says that `--config` names.
fn with_config_file(given: Vec<OsString>, matches: ArgMatches) -> Result<ArgMatches, String> {
    let Some(("serve", options)) = matches.subcommand() else {
        return Ok(matches);
    };
    let command = Cli::command();
    let Some(serve) = command.find_subcommand("serve") else {
        return Ok(matches);
    };
    let Some((path, more)) = serve::config_file::arguments(options, serve)? else {
        return Ok(matches);
    };
    let both = given.into_iter().chain(more);
    Cli::command()
        .try_get_matches_from(both)
        .map_err(|error| format!("in {}: {}", path.display(), without_prefix(&error)))
}

fn without_prefix(error: &clap::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("error: ")
        .unwrap_or(&text)
        .trim_end()
        .to_owned()
}

fn manual(name: Option<&str>) -> ExitCode {
    let mut command = Cli::command();
    command.build();
    let wanted = match name {
        None => Some(&command),
        Some(name) => command.find_subcommand(name),
    };
    let Some(wanted) = wanted else {
        terminal::complain("there is no such command. See: autonat help");
        return ExitCode::from(2);
    };
    match clap_mangen::Man::new(wanted.clone()).render(&mut io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::complain(&format!("can't print it: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
