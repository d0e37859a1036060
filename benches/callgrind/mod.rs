//! Counts instructions, which are the same on a busy machine as on an idle one.

use std::{env, process::Command};

/// Of `rep movsb` and `rep stosb` valgrind counts every byte as an instruction, so glibc is kept from using them.
const NO_REP: &str =
    "glibc.cpu.x86_rep_movsb_threshold=1000000000:glibc.cpu.x86_rep_stosb_threshold=1000000000";

/// The instructions that this program executes in user space when started with `args`; `None` without valgrind.
pub(crate) fn instructions(args: &[&str]) -> Option<u64> {
    let output = Command::new("valgrind")
        .env("GLIBC_TUNABLES", NO_REP)
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe().ok()?)
        .args(args)
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{args:?} fails under valgrind: {text}"
    );
    let collected = text.lines().find(|line| line.contains("Collected"))?;
    collected.rsplit(':').next()?.trim().parse().ok()
}
