//! What the core of the client claims, in virtual time against scripted servers.

#[path = "reachability/applications.rs"]
mod applications;
#[path = "reachability/asking.rs"]
mod asking;
#[path = "reachability/attacks.rs"]
mod attacks;
#[path = "reachability/candidates.rs"]
mod candidates;
#[path = "reachability/churn.rs"]
mod churn;
#[path = "reachability/crowds.rs"]
mod crowds;
#[path = "reachability/guesses.rs"]
mod guesses;
#[path = "reachability/guide.rs"]
mod guide;
#[path = "reachability/hosts.rs"]
mod hosts;
#[path = "reachability/neighbours.rs"]
mod neighbours;
#[path = "reachability/nonces.rs"]
mod nonces;
#[path = "reachability/obstacles.rs"]
mod obstacles;
#[path = "reachability/properties.rs"]
mod properties;
#[path = "reachability/rules.rs"]
mod rules;
#[path = "reachability/schedule.rs"]
mod schedule;
#[path = "reachability/servers.rs"]
mod servers;
#[path = "reachability/vantage.rs"]
mod vantage;
#[path = "reachability/verdicts.rs"]
mod verdicts;
#[path = "reachability/world.rs"]
mod world;
