//! The program itself: how it is started, what it tells of itself.

use crate::process::{Process, Run, Scratch, run};

pub(crate) const AUTONAT: &str = env!("CARGO_BIN_EXE_autonat");

/// Checks with these arguments.
pub(crate) async fn check(args: &[&str]) -> Run {
    run(AUTONAT, &[&["check"], args].concat()).await
}

/// Serves with these arguments, to its end.
pub(crate) async fn serve(args: &[&str]) -> Run {
    run(AUTONAT, &[&["serve"], args].concat()).await
}

/// A check or a server that runs.
pub(crate) fn start(command: &str, args: &[&str]) -> Process {
    Process::start(AUTONAT, &[&[command], args].concat(), &[])
}

/// A server on loopback, and the addresses that it listens on over TCP and QUIC.
pub(crate) async fn server(scratch: &Scratch, more: &[&str]) -> (Process, String, String) {
    let key = scratch.file("key");
    let mut args = vec!["--key", &key, "--allow-private"];
    args.extend(["--listen", "/ip4/127.0.0.1/tcp/0"]);
    args.extend(["--listen", "/ip4/127.0.0.1/udp/0/quic-v1"]);
    args.extend(more);
    let mut server = start("serve", &args);
    let one = server.line("listening on ").await;
    let other = server.line("listening on ").await;
    match one.contains("/tcp/") {
        true => (server, one, other),
        false => (server, other, one),
    }
}

#[tokio::test]
async fn it_tells_its_version() {
    let run = run(AUTONAT, &["--version"]).await;
    assert_eq!(run.code, 0);
    assert_eq!(
        run.stdout.trim_end(),
        concat!("autonat ", env!("CARGO_PKG_VERSION"))
    );
}

#[tokio::test]
async fn without_a_command_it_says_which_there_are() {
    let run = run(AUTONAT, &[]).await;
    assert_eq!(run.code, 2);
    for command in ["check", "serve", "completions", "man"] {
        assert!(run.stderr.contains(command), "{run:?}");
    }
}

#[tokio::test]
async fn each_shell_gets_completions_of_every_option() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let run = run(AUTONAT, &["completions", shell]).await;
        assert_eq!(run.code, 0, "{run:?}");
        for option in ["allow-private", "dial-from", "external"] {
            assert!(run.stdout.contains(option), "{shell} completes {option}");
        }
    }
}

#[tokio::test]
async fn the_manual_has_a_page_for_each_command() {
    for (args, words) in [
        (&["man"][..], "autonat\\-check"),
        (&["man", "check"], "Exit codes"),
        (&["man", "serve"], "requests\\-per\\-peer"),
    ] {
        let run = run(AUTONAT, args).await;
        assert_eq!(run.code, 0, "{run:?}");
        assert!(run.stdout.contains(".TH"), "it is a manual page: {run:?}");
        assert!(
            run.stdout.contains(words),
            "{args:?} says {words}: {}",
            run.stdout
        );
    }
    assert_eq!(run(AUTONAT, &["man", "nonsense"]).await.code, 2);
}
