//! Commands that ask a server: where it is, how long to try, and what it means when there is no answer.
//!
//! The only file of the command line that names the client's errors. Deliberately not here: what is asked.

use std::time::Duration;

use clap::Args;
use sluice_client::{Client, Error, ReservationId};

use super::exit::Exit;
use super::output::{self, Failure};
use super::time::parse_span;
use super::told::Told;

const CLIENT_NAME: &str = concat!("sluice-cli ", env!("CARGO_PKG_VERSION"));

/// Where to ask, and how to tell.
#[derive(Debug, Args)]
pub(super) struct RemoteArgs {
    /// Where the servers are: sluice://host:7400[,host2:7400…]
    #[arg(long, value_name = "URL", env = "SLUICE_SERVER", default_value = "sluice://127.0.0.1:7400")]
    server: String,
    /// How long to try, retries included: 1ms to 60s
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_span)]
    deadline: Duration,
    /// Print one JSON object; where lines are printed, one for each
    #[arg(long)]
    json: bool,
}

impl RemoteArgs {
    /// Connects, asks, tells.
    pub(super) fn run(&self, ask: impl AsyncFnOnce(Client) -> Result<Told, Failure>) -> Exit {
        output::finish(self.told(ask), self.json)
    }

    /// The same for a command that tells line by line, and returns how it ended.
    pub(super) fn run_lines(&self, ask: impl AsyncFnOnce(Client) -> Result<Exit, Failure>) -> Exit {
        self.told(ask).unwrap_or_else(|failure| output::finish(Err(failure), self.json))
    }

    /// Whether programs read what is told.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// How long to try.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    fn told<T>(&self, ask: impl AsyncFnOnce(Client) -> Result<T, Failure>) -> Result<T, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Exit::Internal, "internal", format!("cannot start: {error}")))?;
        runtime.block_on(async {
            let builder = Client::builder().name(CLIENT_NAME);
            let builder = builder.deadline(self.deadline).connect_deadline(self.deadline);
            ask(builder.connect(&self.server).await?).await
        })
    }
}

/// No final answer is no refusal: apart from mistakes on the command line all of it is "unavailable".
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (exit, code) = match &error {
            Error::Url(_) | Error::Setting { .. } => (Exit::Usage, "usage"),
            Error::Busy { .. } => (Exit::Unavailable, "busy"),
            Error::Full { .. } => (Exit::Unavailable, "full"),
            Error::NotLeader => (Exit::Unavailable, "not_leader"),
            Error::Disconnected { .. } => (Exit::Unavailable, "disconnected"),
            Error::Fault { .. } => (Exit::Unavailable, "fault"),
            Error::Handshake { .. } | Error::Protocol { .. } => (Exit::Unavailable, "protocol"),
            Error::Killed { .. } => (Exit::Unavailable, "killed"),
            Error::Unresolved { .. } => (Exit::Unavailable, "unresolved"),
            _ => (Exit::Unavailable, "unavailable"),
        };
        let failure = match error.unresolved() {
            Some(id) => Self::new(exit, code, unresolved(id)).fact("id", id.to_string()),
            None => Self::new(exit, code, error.to_string()),
        };
        failure.fact("retryable", error.is_retryable())
    }
}

fn unresolved(id: ReservationId) -> String {
    format!(
        "no answer came in time, and nobody could be asked what became of {id}: it may have been done. To find \
         out, or to make sure that it never happens: sluice resolve {id}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_says_how_to_find_out() {
        let failure = Failure::from(Error::Unresolved { id: ReservationId(0xab) });
        let json = failure.json();
        assert_eq!(json["exit"], 3);
        assert_eq!(json["id"], format!("{:032x}", 0xab));
        assert_eq!(json["retryable"], false);
        assert!(json["message"].as_str().unwrap().ends_with(&format!("sluice resolve {:032x}", 0xab)));
    }

    #[test]
    fn a_url_that_is_none_is_a_mistake_of_the_command_line() {
        let args =
            RemoteArgs { server: "localhost:7400".to_owned(), deadline: Duration::from_secs(1), json: true };
        let failure = args.told::<Told>(async |_| panic!("there is nobody to ask")).unwrap_err();
        assert_eq!(failure.json()["exit"], 2);
    }

    #[test]
    fn nobody_there_is_unavailable() {
        // Bound and dropped, so that the port is free and nobody listens on it.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let args = RemoteArgs {
            server: format!("sluice://127.0.0.1:{port}"),
            deadline: Duration::from_millis(50),
            json: true,
        };
        let failure = args.told::<Told>(async |_| panic!("there is nobody to ask")).unwrap_err();
        assert_eq!((&failure.json()["exit"], &failure.json()["error"]), (&3.into(), &"disconnected".into()));
    }
}
