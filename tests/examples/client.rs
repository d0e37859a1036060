//! The smallest client: it tells a reachable address from one behind a wall.

use crate::{
    host::{EVERY_PORT, Firewall, host},
    process::{Process, example},
};

#[tokio::test]
async fn it_says_what_the_servers_find() {
    for (closed, words) in [
        (None, "this node is public"),
        (Some(EVERY_PORT), "this node is private"),
    ] {
        let wall = Firewall::default();
        wall.lock().expect("not poisoned").extend(closed);
        let servers = [host(&wall).await.to_string(), host(&wall).await.to_string()];
        let env = [("ALLOW_PRIVATE", "1"), ("LISTEN", "/ip4/127.0.0.1/tcp/0")];
        let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
        let mut client = Process::start(example("client"), &servers, &env);
        client.line(words).await;
    }
}
