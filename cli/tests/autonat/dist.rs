//! What `cli/dist` holds for those who run a server.

use std::{fs, path::PathBuf};

use crate::{
    command::{AUTONAT, start},
    process::Scratch,
};

fn dist(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "dist", name].iter().collect()
}

#[tokio::test]
async fn the_configuration_is_one_that_the_server_takes() {
    let scratch = Scratch::new("dist-config");
    let text = fs::read_to_string(dist("autonat.toml")).expect("it is there");
    // Every option that it shows commented out, too.
    let uncommented = text.lines().map(|line| {
        let option = line.strip_prefix('#').filter(|rest| rest.contains(" = "));
        option.unwrap_or(line)
    });
    let uncommented: Vec<&str> = uncommented.collect();
    for text in [text.clone(), uncommented.join("\n")] {
        let path = scratch.file("autonat.toml");
        fs::write(&path, &text).expect("it can be written");
        let key = scratch.file("key");
        let mut args = vec!["--config", &path, "--key", &key];
        args.extend([
            "--listen",
            "/ip4/127.0.0.1/tcp/0",
            "--metrics",
            "127.0.0.1:0",
        ]);
        let mut server = start("serve", &args);
        server.line("listening on ").await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn systemd_takes_the_unit() {
    use crate::process::run;

    let scratch = Scratch::new("dist-unit");
    let unit = fs::read_to_string(dist("autonat.service")).expect("it is there");
    let installed = "/usr/local/bin/autonat";
    assert!(
        unit.contains(&format!("ExecStart={installed} serve ")),
        "{unit}"
    );
    // The program must be where the unit says.
    let path = scratch.file("autonat.service");
    fs::write(&path, unit.replace(installed, AUTONAT)).expect("it can be written");
    let verified = run("systemd-analyze", &["verify", "--man=no", &path]).await;
    assert_eq!(verified.code, 0, "{verified:?}");
    assert_eq!(verified.stderr, "", "{verified:?}");
}
