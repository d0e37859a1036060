//! A child process whose output is awaited line by line, and which does not outlive the test. For the examples and for the
//! command-line tool.

#![allow(dead_code, reason = "each of them uses a part of it")]

use std::{
    ffi::OsStr,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::mpsc,
    task::JoinHandle,
    time::Instant,
};

/// How long a test waits for what must happen. Generous, as it is only spent on failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The binary of an example, which cargo builds together with the tests.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test has a path");
    let target = test
        .ancestors()
        .nth(2)
        .expect("it is in target/PROFILE/deps");
    let binary = target
        .join("examples")
        .join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(
        binary.exists(),
        "{} is missing: run `cargo build --examples` first",
        binary.display()
    );
    binary
}

/// A running program. Killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
    forwarders: [JoinHandle<()>; 2],
    /// All that was printed, for the message of a failing test.
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    pub(crate) fn start(program: impl AsRef<OsStr>, args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut child = Command::new(program)
            .args(args)
            .envs(env.iter().copied())
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let (sender, lines) = mpsc::unbounded_channel();
        let log = Arc::default();
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().expect("it is piped");
        let forwarders = [
            forward(stdout, sender.clone(), &log),
            forward(stderr, sender, &log),
        ];
        Self {
            child,
            lines,
            forwarders,
            log,
        }
    }

    /// The rest of the first line that contains `marker`, from there on.
    pub(crate) async fn line(&mut self, marker: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match tokio::time::timeout_at(deadline, self.lines.recv()).await {
                Ok(Some(line)) => {
                    if let Some((_, rest)) = line.split_once(marker) {
                        return rest.to_owned();
                    }
                }
                Ok(None) => panic!("it ended without printing {marker:?}:\n{}", self.log()),
                Err(_) => panic!("it did not print {marker:?} in time:\n{}", self.log()),
            }
        }
    }

    /// Reads no more of what it prints.
    pub(crate) fn unread(&mut self) {
        for forwarder in &self.forwarders {
            forwarder.abort();
        }
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        match tokio::time::timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status.expect("it can be waited for"),
            Err(_) => panic!("it did not end in time:\n{}", self.log()),
        }
    }

    #[cfg(unix)]
    pub(crate) async fn signal(&self, name: &str) {
        let id = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill")
            .args(["-s", name, &id])
            .status()
            .await
            .expect("kill is there");
        assert!(sent.success(), "the signal was sent");
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("not poisoned").join("\n")
    }
}

fn forward(
    pipe: impl AsyncRead + Unpin + Send + 'static,
    sender: mpsc::UnboundedSender<String>,
    log: &Arc<Mutex<Vec<String>>>,
) -> JoinHandle<()> {
    let log = Arc::clone(log);
    tokio::spawn(async move {
        let mut lines = BufReader::new(pipe).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            log.lock().expect("not poisoned").push(line.clone());
            let _ = sender.send(line);
        }
    })
}

/// What a tool printed and how it ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a program to its end.
pub(crate) async fn run(program: impl AsRef<OsStr>, args: &[&str]) -> Run {
    let output = Command::new(program)
        .args(args)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, output)
        .await
        .unwrap_or_else(|_| panic!("{args:?} did not end in time"))
        .expect("it starts");
    Run {
        code: output.status.code().expect("it was not killed"),
        stdout: String::from_utf8(output.stdout).expect("it prints text"),
        stderr: String::from_utf8(output.stderr).expect("it prints text"),
    }
}

/// Runs a program whose output nobody reads, to its end.
pub(crate) async fn run_unread(program: impl AsRef<OsStr>, args: &[&str]) -> Option<i32> {
    let mut child = Command::new(program)
        .args(args)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    drop((child.stdout.take(), child.stderr.take()));
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
    let status = ended.unwrap_or_else(|_| panic!("{args:?} did not end in time"));
    status.expect("it can be waited for").code()
}

/// A directory that is removed when it is dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("autonat-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary directory can be written");
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
