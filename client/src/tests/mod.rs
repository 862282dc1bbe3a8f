//! The whole client against a cluster in memory, on a clock that stands still unless everybody waits. So a test
//! can say "within a tenth of a second" and mean it, on any machine.
//!
//! - [`cluster`]: three scripted nodes, a network between them and the client, one book of outcomes
//! - `finding`: whom the client asks, in which order, how often
//! - `failing_over`: leaders die, hang, stop, and the calls under way
//! - `consuming`: the stream of events, its groups and their keepers
//! - `reading`: reads by any server
//! - `ending`: deadlines and errors, whatever the servers do
//! - `storm`: all of it at random

mod cluster;
mod consuming;
mod ending;
mod failing_over;
#[path = "../../tests/fake/mod.rs"]
pub(crate) mod fake;
mod finding;
mod reading;
mod storm;
