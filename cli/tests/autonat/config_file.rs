//! `serve --config`: a file stands for arguments.

use std::fs;

use crate::{
    command::{serve, start},
    process::Scratch,
};

fn write(scratch: &Scratch, text: &str) -> String {
    let path = scratch.file("autonat.toml");
    fs::write(&path, text).expect("it can be written");
    path
}

#[tokio::test]
async fn what_it_says_is_done_and_the_command_line_goes_before() {
    let scratch = Scratch::new("config-file");
    let (in_file, given) = (scratch.file("file-key"), scratch.file("given-key"));
    let text = format!(
        "# A comment.\nkey = {in_file:?}\nallow-private = true\nquiet = false\nrequests-per-peer = 0\n\
         listen = [\"/ip4/127.0.0.1/tcp/0\", \"/ip4/127.0.0.1/udp/0/quic-v1\"]\n"
    );
    let config = write(&scratch, &text);
    let mut server = start("serve", &["--config", &config]);
    let (one, other) = (
        server.line("listening on ").await,
        server.line("listening on ").await,
    );
    assert!(
        one.contains("/tcp/") != other.contains("/tcp/"),
        "{one} {other}"
    );
    let tcp = if one.contains("/tcp/") { one } else { other };
    let args = [
        "--allow-private",
        "--bind",
        "127.0.0.1",
        "--port",
        "0",
        "--timeout",
        "30",
        &tcp,
    ];
    let _client = start("check", &args);
    server.line("rejected, over the limit").await;
    assert!(fs::metadata(&in_file).is_ok());

    let more = ["--key", &given, "--listen", "/ip4/127.0.0.1/tcp/0"];
    let mut server = start("serve", &[&["--config", &config], &more[..]].concat());
    server.line(&format!("made a new key: {given}")).await;
    assert!(server.line("listening on ").await.contains("/tcp/"));
}

#[tokio::test]
async fn each_mistake_in_it_is_explained() {
    let scratch = Scratch::new("config-mistakes");
    for (text, words) in [
        ("key = ", "is not TOML"),
        ("requsts = 1", "'--requests'"),
        ("alow-private = false", "--allow-private"),
        ("requests = \"many\"", "invalid digit"),
        ("requests = -1", "invalid"),
        ("requests = 1.5", "whole number"),
        ("listen = [\"8.8.8.8\"]", "multiaddr"),
        ("listen = [[\"/ip4/127.0.0.1/tcp/0\"]]", "a list of lists"),
        ("allow-private = \"yes\"", "unexpected value 'yes'"),
        ("v4-prefix = 33", "0..=32"),
        ("[limits]\nrequests = 1", "limits"),
        ("[requests]\nx = 1", "requests is a table"),
        ("config = \"other.toml\"", "on the command line only"),
        ("help = true", "on the command line only"),
    ] {
        let path = write(&scratch, text);
        let key = scratch.file("key");
        let run = serve(&["--key", &key, "--config", &path]).await;
        assert_eq!(run.code, 2, "{text:?}: {run:?}");
        assert!(
            run.stderr.contains(words),
            "{text:?} says {words:?}: {}",
            run.stderr
        );
        assert!(
            run.stderr.contains(&path),
            "{text:?} names the file: {}",
            run.stderr
        );
        assert!(fs::metadata(&key).is_err(), "{text:?}");
    }
    let run = serve(&["--config", &scratch.file("missing.toml")]).await;
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.stderr.contains("can't read"), "{run:?}");
}
