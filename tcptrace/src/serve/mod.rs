//! The agent's HTTP side: a thread of its own, which knows nothing of sockets. What is asked goes
//! to the watch as a question; what it says goes out as events. A client can slow down, stop or
//! flood this thread; the watch goes on, and memory stays bounded.
//!
//! One file a stage: `listen` accepts and bounds connections, `guard` says who may ask, `routes`
//! turns paths and their `words` into questions, `site` asks them, `answer` (on the watch's thread)
//! answers them, `feed` keeps the latest events, which `events` tells, `page` asks all that in a
//! browser. `current` is what may be exchanged meanwhile. What goes out by itself, by `client`, is
//! what `otlp` sends and what `kubelet` asks.

pub mod answer;
pub mod client;
pub mod current;
pub mod events;
pub mod feed;
pub mod guard;
pub mod kubelet;
pub mod listen;
pub mod otlp;
pub mod page;
pub mod pods;
pub mod routes;
pub mod site;
pub mod words;
