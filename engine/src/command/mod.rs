//! The command line: one file a subcommand.
//!
//! What they share: [`exit`] (codes and their meaning), `told` (what there is to tell, for people and programs),
//! `output` (where it goes), `remote` (asking a server), `ops` (asking an ops port), [`time`] (as people write it). Deliberately not here: doing
//! anything; commands ask the node, the client crate or the configuration.

mod check_config;
mod database;
mod dead;
pub mod demo;
mod digest;
pub mod exit;
mod found;
mod group;
mod hand_off;
mod node;
mod ops;
mod output;
mod position;
mod product;
mod reconcile;
mod relay;
mod remote;
mod reservation;
mod serve;
mod signals;
mod status;
mod tail;
pub mod time;
mod told;

use clap::{Parser, Subcommand};

pub use check_config::CheckConfigArgs;
pub use dead::DeadCommand;
pub use demo::DemoArgs;
pub use digest::DigestArgs;
pub use exit::Exit;
pub use found::{InitArgs, JoinArgs};
pub use group::GroupCommand;
pub use hand_off::HandOffArgs;
pub use node::NodeCommand;
pub use position::{PositionArgs, WatchArgs};
pub use product::ProductCommand;
pub use reconcile::ReconcileArgs;
pub use relay::RelayArgs;
pub use reservation::{CancelArgs, ConfirmArgs, ReserveArgs, ResolveArgs, ShowArgs};
pub use serve::ServeArgs;
pub use status::StatusArgs;
pub use tail::TailArgs;

/// Sluice, the stock engine of flash sales: never one too many, never one too few.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, after_help = exit::HELP)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node
    Serve(ServeArgs),
    /// Make the data directory of a new cluster
    Init(InitArgs),
    /// Make the data directory of a new node of a cluster
    Join(Box<JoinArgs>),
    /// List, promote, remove and replace the nodes of a cluster, and choose its leader
    #[command(subcommand)]
    Node(NodeCommand),
    /// Print the configuration that `serve` would run with, or everything that is wrong with it
    CheckConfig(CheckConfigArgs),
    /// Run a flash sale on this machine, kill whoever leads in its midst, and check every answer
    Demo(DemoArgs),
    /// Show how a node is and what it has sold
    Status(StatusArgs),
    /// Tell what has been sold as of one event, exactly, and whether nodes agree
    Digest(DigestArgs),
    /// Compare the table of orders in PostgreSQL with what the server says, and name each that is not the same
    Reconcile(Box<ReconcileArgs>),
    /// Create, change, show and list products; add and remove stock
    #[command(subcommand)]
    Product(ProductCommand),
    /// Take units of a product for a user
    Reserve(ReserveArgs),
    /// A held reservation was paid: sell its units for good
    Confirm(ConfirmArgs),
    /// Give a reservation back, or make sure that it never happens
    Cancel(CancelArgs),
    /// Tell what became of an id, or make sure that nothing ever will
    Resolve(ResolveArgs),
    /// Show a reservation
    Show(ShowArgs),
    /// Tell where a reservation stands, and each change until it has ended
    Watch(WatchArgs),
    /// Tell how many events a consumer group takes before a reservation's
    Position(PositionArgs),
    /// Print events as they are committed
    Tail(TailArgs),
    /// Keep a table of orders in PostgreSQL: one row for each reservation
    HandOff(HandOffArgs),
    /// Publish all events to a message broker, each once and in order
    Relay(Box<RelayArgs>),
    /// List, show, create, move and remove consumer groups
    #[command(subcommand)]
    Group(GroupCommand),
    /// List dead letters of a consumer group, deliver them again, or forget them
    #[command(subcommand)]
    Dead(DeadCommand),
}

impl Cli {
    /// Does what was asked for.
    pub fn run(self) -> Exit {
        match self.command {
            Command::Serve(args) => args.run(),
            Command::Init(args) => args.run(),
            Command::Join(args) => args.run(),
            Command::Node(command) => command.run(),
            Command::CheckConfig(args) => args.run(),
            Command::Demo(args) => demo::run(args),
            Command::Status(args) => args.run(),
            Command::Digest(args) => args.run(),
            Command::Reconcile(args) => args.run(),
            Command::Product(command) => command.run(),
            Command::Reserve(args) => args.run(),
            Command::Confirm(args) => args.run(),
            Command::Cancel(args) => args.run(),
            Command::Resolve(args) => args.run(),
            Command::Show(args) => args.run(),
            Command::Watch(args) => args.run(),
            Command::Position(args) => args.run(),
            Command::Tail(args) => args.run(),
            Command::HandOff(args) => args.run(),
            Command::Relay(args) => args.run(),
            Command::Group(command) => command.run(),
            Command::Dead(command) => command.run(),
        }
    }
}
