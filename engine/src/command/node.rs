//! `sluice node`: who the members of a cluster are, and how that changes.
//!
//! Asks the port for peers of any node; what only the leader can do is asked of the leader.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};

use super::exit::Exit;
use super::found::JoinArgs;
use super::output::{self, Failure};
use super::time::parse_span;
use super::told::Fact::{Flag, Number, Text};
use super::told::{Facts, Told};
use crate::peers::operator::{self, Answer, Ask, Cluster, Member};

/// How long to wait before a question that may be asked again is.
const PAUSE: Duration = Duration::from_millis(50);

/// How long one node may take to say how it is, as long as others can be asked.
const LOOK_MAX: Duration = Duration::from_secs(3);

/// List, promote, remove and replace the nodes of a cluster, and choose its leader.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// The same as `sluice join`: run it on the new node's host
    Add(Box<JoinArgs>),
    /// Show the members, and how far each is
    List(Where),
    /// Have a learner vote; waits until it has caught up
    Promote(One),
    /// Have a node leave for good; its id is never used again
    Remove(One),
    /// Have a learner take a voter's place in one step
    Replace(Replace),
    /// Have another voter lead; waits until it does
    Transfer(One),
}

/// Which cluster, and how to tell.
#[derive(Debug, Args)]
pub struct Where {
    /// Where nodes of the cluster are: their ports for peers
    #[arg(
        long,
        value_name = "HOST:PORT,…",
        env = "SLUICE_CLUSTER",
        value_delimiter = ',',
        default_value = "127.0.0.1:7401"
    )]
    cluster: Vec<String>,
    /// How long to try
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_span)]
    deadline: Duration,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A node of it.
#[derive(Debug, Args)]
pub struct One {
    /// The node's id
    node: u64,
    #[command(flatten)]
    place: Where,
}

/// Two nodes of it.
#[derive(Debug, Args)]
pub struct Replace {
    /// The voter that goes
    node: u64,
    /// The learner that takes its place
    #[arg(long)]
    by: u64,
    #[command(flatten)]
    place: Where,
}

impl NodeCommand {
    pub(super) fn run(self) -> Exit {
        match self {
            Self::Add(join) => join.run(),
            Self::List(place) => output::finish(place.list(), place.json),
            Self::Promote(One { node, place }) => place.change(&Ask::Promote { node }, "promoted", node),
            Self::Remove(One { node, place }) => place.change(&Ask::Remove { node }, "removed", node),
            Self::Replace(Replace { node, by, place }) => {
                place.change(&Ask::Replace { node, by }, "replaced", node)
            }
            Self::Transfer(One { node, place }) => output::finish(place.transfer(node), place.json),
        }
    }
}

impl Where {
    fn list(&self) -> Result<Told, Failure> {
        let cluster = self.look(self.by())?;
        let told = Told::yes("cluster")
            .fact("cluster", Text(cluster.cluster.clone()))
            .fact("term", Number(cluster.term))
            .fact("leader", Number(cluster.leader))
            .fact("commit_index", Number(cluster.commit))
            .fact("told_by", Number(cluster.node));
        Ok(told.list("members", cluster.members.iter().map(row).collect()))
    }

    fn change(&self, question: &Ask, outcome: &'static str, node: u64) -> Exit {
        let told = self.ask(question, self.by()).map(|answer| {
            let told = Told::yes(outcome).fact("node", Number(node));
            match answer {
                Answer::Changed { index } => told.fact("index", Number(index)),
                _ => told,
            }
        });
        output::finish(told, self.json)
    }

    /// Asks for it until it is so: raft may not get it done at once.
    fn transfer(&self, node: u64) -> Result<Told, Failure> {
        let by = self.by();
        loop {
            let cluster = self.look(by)?;
            if cluster.leader == node {
                return Ok(Told::yes("leads").fact("node", Number(node)).fact("term", Number(cluster.term)));
            }
            self.ask(&Ask::Transfer { to: node }, by)?;
            if Instant::now() >= by {
                let why = format!("node {node} does not lead yet; `sluice node list` shows who does");
                return Err(Failure::new(Exit::Unavailable, "unavailable", why));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn by(&self) -> Instant {
        Instant::now() + self.deadline
    }

    /// The cluster as its leader sees it, or as any node does if nobody leads.
    fn look(&self, by: Instant) -> Result<Cluster, Failure> {
        let mut addresses = self.cluster.clone();
        let mut seen: Option<Cluster> = None;
        let mut trouble = String::new();
        let mut at = 0;
        while let Some(address) = addresses.get(at).cloned() {
            at += 1;
            match operator::ask(&address, &Ask::List, by.min(Instant::now() + LOOK_MAX)) {
                Ok(Answer::Listed(cluster)) if cluster.leader == cluster.node => return Ok(cluster),
                Ok(Answer::Listed(cluster)) => {
                    let leader = cluster.members.iter().find(|member| member.leads);
                    let leader = leader.and_then(|leader| leader.peers.clone());
                    addresses.extend(leader.filter(|leader| !addresses.contains(leader)));
                    seen.get_or_insert(cluster);
                }
                Ok(answer) => trouble = format!("{address} answered {answer:?}"),
                Err(error) => trouble = format!("{address}: {error}"),
            }
        }
        seen.ok_or_else(|| unavailable(&trouble))
    }

    fn ask(&self, question: &Ask, by: Instant) -> Result<Answer, Failure> {
        match operator::ask_leader(&self.cluster, question, by, PAUSE) {
            Ok(Answer::Refused { code, message, retry }) => {
                let exit = if retry { Exit::Unavailable } else { Exit::Refused };
                Err(Failure::new(exit, "refused", message).fact("reason", code).fact("retryable", retry))
            }
            Ok(answer) => Ok(answer),
            Err(error) => Err(unavailable(&error.to_string())),
        }
    }
}

fn unavailable(trouble: &str) -> Failure {
    let message =
        format!("no node of the cluster answered: {trouble}; --cluster names their ports for peers");
    Failure::new(Exit::Unavailable, "unavailable", message)
}

fn row(member: &Member) -> Facts {
    let or_unknown = |text: &Option<String>| Text(text.clone().unwrap_or_else(|| "?".to_owned()));
    let number = |number: Option<u64>| number.map_or_else(|| Text("?".to_owned()), Number);
    let role = if member.leads { "leader" } else { &member.role };
    let progress = member.progress.as_ref();
    let state = progress.map_or("?".to_owned(), |progress| match progress.snapshot_len {
        0 => progress.state.clone(),
        len => format!("snapshot {} %", progress.snapshot_sent * 100 / len),
    });
    vec![
        ("node", Number(member.node)),
        ("role", Text(role.to_owned())),
        ("peers", or_unknown(&member.peers)),
        ("clients", or_unknown(&member.clients)),
        ("connected", Flag(member.connected)),
        ("matched", number(progress.map(|progress| progress.matched))),
        ("behind", number(progress.map(|progress| progress.behind))),
        ("progress", Text(state)),
        ("trouble", Text(member.trouble.clone())),
    ]
}
