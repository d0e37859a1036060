//! `autonat`, run as its users run it: as a process, read line by line.

#[path = "autonat/check.rs"]
mod check;
#[path = "autonat/command.rs"]
mod command;
#[path = "autonat/config_file.rs"]
mod config_file;
#[path = "autonat/dist.rs"]
mod dist;
#[path = "autonat/dns.rs"]
mod dns;
#[path = "autonat/hosts.rs"]
mod hosts;
#[path = "../../tests/examples/process.rs"]
mod process;
#[path = "autonat/serve.rs"]
mod serve;
#[cfg(target_os = "linux")]
#[path = "autonat/terminal.rs"]
mod terminal;
