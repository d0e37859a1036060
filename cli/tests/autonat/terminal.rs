//! What a terminal gets to see, and what a pipe does.

use std::process::Stdio;

use tokio::process::Command;

use crate::{
    command::{AUTONAT, server},
    process::{PATIENCE, Scratch, run},
};

const ESCAPE: char = '\u{1b}';

/// All that the command writes to a terminal of its own.
async fn on_a_terminal(command: &str) -> String {
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", command, "/dev/null"])
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, output).await;
    let output = output
        .expect("it ends in time")
        .expect("`script` of util-linux is there");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).expect("it prints text")
}

#[tokio::test]
async fn a_terminal_gets_colours_and_progress_and_a_pipe_plain_lines() {
    let scratch = Scratch::new("terminal");
    let (_server, tcp, _) = server(&scratch, &[]).await;
    let args = format!("check --allow-private --bind 127.0.0.1 --port 0 {tcp}");

    let shown = on_a_terminal(&format!("{AUTONAT} {args}")).await;
    assert!(
        shown.contains("\u{1b}[1m\u{1b}[32mYES"),
        "in green: {shown:?}"
    );
    assert!(
        shown.contains("1 of 1 servers serve"),
        "progress: {shown:?}"
    );
    assert!(shown.contains("got through"), "{shown:?}");
    let (_, end) = shown.rsplit_once("What to do").expect("it advises");
    assert!(
        !end.contains("servers serve"),
        "nothing is left of the progress: {shown:?}"
    );

    let plain = on_a_terminal(&format!("{AUTONAT} --color never {args}")).await;
    assert!(
        !plain.contains("\u{1b}[32m") && plain.contains("YES"),
        "{plain:?}"
    );

    let words: Vec<&str> = args.split(' ').collect();
    let piped = run(AUTONAT, &words).await;
    assert_eq!(piped.code, 0);
    for text in [&piped.stdout, &piped.stderr] {
        assert!(!text.contains([ESCAPE, '\r']), "{piped:?}");
    }
    assert!(!piped.stderr.contains("servers serve"), "{piped:?}");

    let coloured = run(AUTONAT, &[&["--color", "always"], &words[..]].concat()).await;
    assert!(coloured.stdout.contains("\u{1b}[32m"), "{coloured:?}");
}
