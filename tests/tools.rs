//! The tools among the examples, run as their users run them: as processes, read line by line.

#[path = "tools/check.rs"]
mod check;
#[path = "tools/full_node.rs"]
mod full_node;
#[path = "tools/process.rs"]
mod process;
#[path = "tools/server.rs"]
mod server;
