//! The examples, run as their readers run them: as processes, read line by line.

#[path = "examples/client.rs"]
mod client;
#[path = "examples/full_node.rs"]
mod full_node;
#[path = "examples/host.rs"]
mod host;
#[path = "examples/process.rs"]
mod process;
