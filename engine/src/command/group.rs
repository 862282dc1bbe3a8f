//! `sluice group …`: consumer groups, how far they are, and who is in them.
//!
//! What cannot be undone asks for `--yes`, and without it tells what it would do. Deliberately not here: dead letters
//! ([`super::dead`]), and consuming.

use std::time::Duration;

use clap::{Args, Subcommand};
use sluice_client::{
    Client, EventKind, Group, GroupOutcome, GroupTerms, Member, ProductId, Start, StreamBounds,
};
use sluice_protocol::limits::GROUP_PRODUCTS_MAX;

use super::exit::Exit;
use super::output::Failure;
use super::remote::RemoteArgs;
use super::tail::parse_kind;
use super::time::{parse_span, parse_start};
use super::told::Fact::{Number, Span, Text};
use super::told::{Facts, Told, invalid, name_of, unforeseen};

/// Consumer groups.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List groups, and how far each is behind
    List(ListArgs),
    /// Show a group: how far it is, its members, its terms
    Show(OneArgs),
    /// Create a group, or with --change give one that exists other terms
    Create(Box<CreateArgs>),
    /// Move a group's cursor, back or forth
    Seek(SeekArgs),
    /// Remove a group, with its cursor and its dead letters
    Remove(RemoveArgs),
}

impl GroupCommand {
    pub(super) fn run(&self) -> Exit {
        match self {
            Self::List(args) => args.remote.run(async |client| list(&client).await),
            Self::Show(args) => args.remote.run(async |client| show(&client, &args.name).await),
            Self::Create(args) => args.remote.run(async |client| args.create(&client).await),
            Self::Seek(args) => args.remote.run(async |client| args.seek(&client).await),
            Self::Remove(args) => args.remote.run(async |client| args.remove(&client).await),
        }
    }
}

/// Where the servers are.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Which group.
#[derive(Debug, Args)]
pub struct OneArgs {
    /// The group's name
    name: String,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// A group and its terms.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The group's name: 1 to 32 of a-z, 0-9, '-', '_' and '.'
    name: String,
    /// Where it begins: beginning, end, a sequence, a time such as 2026-11-27T20:00Z, or 10m for ten minutes ago
    #[arg(long, value_name = "WHERE", default_value = "beginning", value_parser = parse_start)]
    start: Start,
    /// The kinds of events it wants, such as confirmed,cancelled [default: all]
    #[arg(long, value_name = "KINDS", value_parser = parse_kind, value_delimiter = ',')]
    kinds: Vec<EventKind>,
    /// A product it wants; at most eight may be given [default: all]
    #[arg(long = "product", value_name = "PRODUCT")]
    products: Vec<ProductId>,
    /// Failed deliveries that make a dead letter; 0 = it is tried for ever [default: 5]
    #[arg(long, value_name = "N")]
    attempts: Option<u32>,
    /// How long until the second try; doubles with each [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    retry: Option<Duration>,
    /// The longest that this grows to [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    retry_max: Option<Duration>,
    /// A member that is silent for so long has left [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    session: Option<Duration>,
    /// A dead letter that tells of a held reservation cancels it, with this reason
    #[arg(long, value_name = "REASON")]
    cancel_dead: Option<u32>,
    /// So many events behind, and buyers are told to queue; 0 = it may lag as it likes [default: 0]
    #[arg(long, value_name = "N")]
    required_lag: Option<u64>,
    /// Unacknowledged events that are kept for it at most; 0 = all [default: 0]
    #[arg(long, value_name = "N")]
    backlog: Option<u64>,
    /// One that exists gets exactly these terms, and stays where it is
    #[arg(long)]
    change: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl CreateArgs {
    async fn create(&self, client: &Client) -> Result<Told, Failure> {
        let terms = self.terms()?;
        let before = client.group(&self.name).await?;
        let named = vec![("group", Text(self.name.clone()))];
        let word = match &before {
            // Somebody else's group in between gets these terms, as it would with two keepers at any one time.
            Some(group) if !self.change => return Ok(Told::no("exists").about(named).at(group.at)),
            Some(_) => "changed",
            None => "created",
        };
        let outcome = client.put_group(&self.name, self.start, &terms).await?;
        Ok(outcome_told(word, &outcome).about(named))
    }

    fn terms(&self) -> Result<GroupTerms, Failure> {
        let default = GroupTerms::default();
        let mut products = [ProductId(0); GROUP_PRODUCTS_MAX];
        if self.products.len() > products.len() {
            let message = format!("a group may name {GROUP_PRODUCTS_MAX} products; without any it wants all");
            return Err(Failure::new(Exit::Usage, "usage", message));
        }
        products.iter_mut().zip(&self.products).for_each(|(place, product)| *place = *product);
        let ms = |span: Option<Duration>, default| span.map_or(default, millis);
        Ok(GroupTerms {
            kinds: self.kinds.iter().fold(0, |mask, kind| mask | kind.bit()),
            products,
            attempts_max: self.attempts.unwrap_or(default.attempts_max),
            retry_ms: ms(self.retry, default.retry_ms),
            retry_ms_max: ms(self.retry_max, default.retry_ms_max.max(ms(self.retry, 0))),
            session_ms: ms(self.session, default.session_ms),
            cancel_dead: self.cancel_dead,
            backlog_max: self.backlog.unwrap_or(default.backlog_max),
            required_lag_max: self.required_lag.unwrap_or(default.required_lag_max),
        })
    }
}

/// What does not fit is far beyond what a server allows: it will say so, and what it allows.
fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}

/// Where to move a group.
#[derive(Debug, Args)]
pub struct SeekArgs {
    /// The group's name
    name: String,
    /// Where it goes on: beginning, end, a sequence, a time such as 2026-11-27T20:00Z, or 10m for ten minutes ago
    #[arg(long, value_name = "WHERE", value_parser = parse_start)]
    to: Start,
    /// Do it; without this it is only told what would be done
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl SeekArgs {
    async fn seek(&self, client: &Client) -> Result<Told, Failure> {
        let Some(group) = client.group(&self.name).await? else { return Ok(unknown(&self.name)) };
        let bounds = client.stream_bounds().await?;
        let after = match self.to {
            Start::Beginning => bounds.first.saturating_sub(1),
            Start::End => bounds.last,
            Start::After(sequence) => sequence,
            Start::At(time_ms) => client.sequence_at(time_ms).await?.saturating_sub(1),
        };
        let facts = vec![
            ("group", Text(self.name.clone())),
            ("cursor", Number(group.cursor)),
            ("to", Number(after)),
            ("passed_over", Number(after.saturating_sub(group.cursor))),
            ("delivered_again", Number(group.cursor.saturating_sub(after))),
            ("members", Number(u64::from(group.members))),
        ];
        if !self.yes {
            return Ok(needs_yes().about(facts).at(group.at));
        }
        Ok(outcome_told("moved", &client.seek_group(&self.name, after).await?).about(facts))
    }
}

/// Which group to remove.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// The group's name
    name: String,
    /// Do it; without this it is only told what would be done
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl RemoveArgs {
    async fn remove(&self, client: &Client) -> Result<Told, Failure> {
        let Some(group) = client.group(&self.name).await? else { return Ok(unknown(&self.name)) };
        let bounds = client.stream_bounds().await?;
        let facts = vec![
            ("group", Text(self.name.clone())),
            ("cursor", Number(group.cursor)),
            ("lag", Number(bounds.last.saturating_sub(group.cursor))),
            ("members", Number(u64::from(group.members))),
            ("dead_letters", Number(u64::from(group.dead))),
        ];
        if !self.yes {
            return Ok(needs_yes().about(facts).at(group.at));
        }
        Ok(outcome_told("removed", &client.remove_group(&self.name).await?).about(facts))
    }
}

/// Nothing was done: it has to be said twice.
pub(super) fn needs_yes() -> Told {
    Told::no("needs_yes").fact("to_do_it", Text("say --yes".to_owned()))
}

/// No group has this name.
pub(super) fn unknown(name: &str) -> Told {
    Told::no("unknown_group").fact("group", Text(name.to_owned()))
}

fn outcome_told(word: &'static str, outcome: &GroupOutcome) -> Told {
    match outcome {
        GroupOutcome::Done { at } => Told::yes(word).at(*at),
        GroupOutcome::UnknownGroup { at } => Told::no("unknown_group").at(*at),
        GroupOutcome::Invalid(refused) => invalid(refused),
        _ => unforeseen(outcome),
    }
}

async fn list(client: &Client) -> Result<Told, Failure> {
    let groups = client.groups().await?;
    let bounds = client.stream_bounds().await?;
    let row = |group: &Group| -> Facts {
        let mut facts = vec![("group", Text(group.name.to_string()))];
        facts.extend(standing(group, &bounds));
        facts
    };
    Ok(Told::yes("done").list("groups", groups.iter().map(row).collect()))
}

/// How far a group is.
fn standing(group: &Group, bounds: &StreamBounds) -> Facts {
    let lag = bounds.last.saturating_sub(group.cursor);
    let age_ms = if group.oldest_ms == 0 { 0 } else { bounds.at.time_ms.saturating_sub(group.oldest_ms) };
    vec![
        ("cursor", Number(group.cursor)),
        ("lag", Number(lag)),
        ("oldest", Span(age_ms)),
        ("rate", Text(format!("{:.1}/s", group.rate_milli as f64 / 1e3))),
        ("members", Number(u64::from(group.members))),
        ("failed", Number(group.failed)),
        ("dead_letters", Number(u64::from(group.dead))),
    ]
}

async fn show(client: &Client, name: &str) -> Result<Told, Failure> {
    let Some(group) = client.group(name).await? else { return Ok(unknown(name)) };
    let bounds = client.stream_bounds().await?;
    let members = client.members(name).await?.unwrap_or_default();
    let facts = [("group", Text(name.to_owned()))]
        .into_iter()
        .chain(standing(&group, &bounds))
        .chain([("epoch", Number(group.epoch))])
        .chain(terms_told(&group.terms));
    let told = facts.fold(Told::yes("group"), |told, (name, fact)| told.fact(name, fact)).at(group.at);
    if members.is_empty() {
        return Ok(told);
    }
    let row = |member: &Member| member_told(member, bounds.last);
    Ok(told.list("member_list", members.iter().map(row).collect()))
}

fn member_told(member: &Member, last: u64) -> Facts {
    vec![
        ("member", Text(format!("{:016x}", member.member))),
        ("lanes", Number(u64::from(member.lanes.count_ones()))),
        ("cursor", Number(member.cursor)),
        ("lag", Number(last.saturating_sub(member.cursor))),
        ("since_epoch", Number(member.epoch)),
    ]
}

fn terms_told(terms: &GroupTerms) -> Facts {
    let kinds = EventKind::ALL.iter().filter(|kind| terms.kinds & kind.bit() != 0).map(name_of);
    let products = terms.products.iter().filter(|product| product.0 != 0).map(ToString::to_string);
    let or =
        |list: Vec<String>, none: &str| Text(if list.is_empty() { none.to_owned() } else { list.join(", ") });
    let most = |number: u64, none: &str| if number == 0 { Text(none.to_owned()) } else { Number(number) };
    vec![
        ("kinds", or(kinds.collect(), "all")),
        ("products", or(products.collect(), "all")),
        ("attempts", most(u64::from(terms.attempts_max), "without end")),
        ("retry", Span(u64::from(terms.retry_ms))),
        ("retry_max", Span(u64::from(terms.retry_ms_max))),
        ("session", Span(u64::from(terms.session_ms))),
        (
            "cancel_dead",
            terms.cancel_dead.map_or_else(|| Text("no".to_owned()), |reason| Number(u64::from(reason))),
        ),
        ("required_lag", most(terms.required_lag_max, "none")),
        ("backlog", most(terms.backlog_max, "all")),
    ]
}
