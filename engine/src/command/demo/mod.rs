//! `sluice demo`: a flash sale on this machine, with a power cut in its midst, and an audit of every answer.
//!
//! A cluster of real servers, each in a process of its own; buyers who pay, cancel, forget, come too late, come again and
//! lose their connections; SIGKILL for whoever leads; another that sells on, and a restart on the same data; and at the end
//! the question whether anybody was told something that is not so. With one node nobody else can sell: it is started
//! again at once.
//!
//! - `stage`: the servers; `plan`: who comes, from the seed; `crowd`: what they do
//! - `meter`: rates and times; `display`: while it runs; `report`: at the end
//!
//! Deliberately not here: judging, which is the [`crate::audit`]'s.

mod crowd;
mod display;
mod meter;
mod plan;
mod report;
mod stage;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Args;
use sluice_client::{Client, Error, PutOutcome, Terms};
use tempfile::TempDir;
use thiserror::Error as ThisError;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, timeout};

use self::crowd::{Crowd, PRODUCT};
use self::display::Display;
use self::plan::Plan;
use self::report::{Cut, Report};
use self::stage::Stage;
use super::exit::Exit;
use super::output::{self, Failure};
use crate::audit::{Account, Promise, Witness, fetch};
use crate::child::LaunchError;

/// How long a hold lasts: long enough to pay within, short enough to see what is not paid come back.
const HOLD: Duration = Duration::from_secs(3);

/// How long a buyer's call may take: longer than any restart here.
const BUYER_PATIENCE: Duration = Duration::from_secs(20);

/// How long one attempt to reach a server may take before a new one is made.
const KNOCK: Duration = Duration::from_millis(50);
const KNOCK_PAUSE: Duration = Duration::from_millis(2);

/// How long the demo may take; and what each attempt and each unit adds.
const TIME_MAX: Duration = Duration::from_secs(120);
const TIME_PER_ATTEMPT: Duration = Duration::from_micros(200);

/// Answers for which the account has room from the start: attempts, and what follows from a yes.
const ANSWERS_PER_ATTEMPT_PERCENT: u64 = 110;

/// Connections of the patient buyers.
const CONNECTIONS: usize = 2;

/// Run a flash sale on this machine, kill whoever leads in its midst, and check every answer
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Nodes, each a process: with three or five the others sell on when the leader is killed
    #[arg(long, default_value = "3", value_parser = ["1", "3", "5"])]
    nodes: String,
    /// Units to sell
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    units: u64,
    /// Attempts to buy
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=50_000_000))]
    buyers: u64,
    /// Who the buyers are and what they do
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Why there is no report.
#[derive(Debug, ThisError)]
enum Trouble {
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error("the server gave no answer: {0}")]
    Client(#[from] Error),
    #[error("the product could not be put up for sale: {0:?}")]
    Put(PutOutcome),
    #[error("the sale is not over after {} s", .0.as_secs())]
    Endless(Duration),
    #[error("interrupted")]
    Interrupted,
}

impl Trouble {
    fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

/// Runs the demo. Exit code 1 if a line of the audit is not as it must be.
#[expect(clippy::needless_pass_by_value, reason = "the command line gives its arguments away")]
pub fn run(args: DemoArgs) -> Exit {
    let made = tempfile::Builder::new().prefix("sluice-demo-").tempdir();
    let dir = match made.map_err(Trouble::system("cannot make a temporary directory")) {
        Ok(dir) => dir,
        Err(trouble) => return complain(&trouble, None, args.json),
    };
    match perform(&args, &dir) {
        Ok(report) => {
            let exit = if report.is_ok() { Exit::Done } else { Exit::Refused };
            let text = if args.json { format!("{}\n", report.json()) } else { report.text() };
            output::print(&text, exit)
        }
        Err(trouble) => complain(&trouble, Some(&dir), args.json),
    }
}

fn complain(trouble: &Trouble, dir: Option<&TempDir>, json: bool) -> Exit {
    let mut message = trouble.to_string();
    if let Some(dir) = dir.filter(|_| !matches!(trouble, Trouble::Interrupted)) {
        message += &stage::logs(dir.path());
    }
    output::finish(Err(Failure::new(Exit::Unavailable, "demo", message)), json)
}

/// Everything within the time that it may take, unless somebody interrupts. Whatever is dropped at the end kills the
/// server.
fn perform(args: &DemoArgs, dir: &TempDir) -> Result<Report, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Trouble::system("cannot start"))?;
    let attempts = u32::try_from(args.buyers + args.units).unwrap_or(u32::MAX);
    let time_max = TIME_MAX + TIME_PER_ATTEMPT * attempts;
    LocalSet::new().block_on(&runtime, async {
        let listen = |kind| signal(kind).map_err(Trouble::system("signals cannot be waited for"));
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut terminate = listen(SignalKind::terminate())?;
        tokio::select! {
            report = timeout(time_max, sale(args, dir)) => {
                report.map_err(|_| Trouble::Endless(time_max)).and_then(|report| report)
            }
            _ = interrupt.recv() => Err(Trouble::Interrupted),
            _ = terminate.recv() => Err(Trouble::Interrupted),
        }
    })
}

/// The sale, from an empty directory to the report.
async fn sale(args: &DemoArgs, dir: &TempDir) -> Result<Report, Trouble> {
    let began = Instant::now();
    let mut display = Display::new(args.json, args.buyers);
    let nodes: usize = args.nodes.parse().expect("the command line takes numbers only");
    display.phase(if nodes == 1 { "starting a server" } else { "starting a cluster" });
    let mut stage = Stage::start(dir.path(), nodes).await?;
    let url = stage.url();
    let account = Rc::new(RefCell::new(Account::with_capacity(
        (args.buyers * ANSWERS_PER_ATTEMPT_PERCENT / 100) as usize,
    )));
    let patient = Witness::new(connect(&url, CONNECTIONS).await?, Rc::clone(&account));
    let hasty = Witness::new(connect(&url, 1).await?, Rc::clone(&account));
    put_up_for_sale(args, patient.client(), &account).await?;

    let plan = Plan { seed: args.seed, units: args.units, attempts: args.buyers, hold: HOLD };
    let crowd = Rc::new(Crowd::new(plan, patient, hasty));
    let display = Rc::new(RefCell::new(display));
    let shown = spawn_local(show(Rc::clone(&crowd), Rc::clone(&display)));
    let phase = |what: &str| display.borrow_mut().phase(what);

    phase("the sale is open");
    let rush = spawn_local({
        let crowd = Rc::clone(&crowd);
        async move { crowd.rush().await }
    });
    crowd.midst().await;
    phase(if nodes == 1 { "the server is dead: kill -9" } else { "the leader is dead: kill -9" });
    let cut = kill_the_leader(&mut stage, nodes, &url, &crowd, &account).await?;
    phase("back again: the rush goes on");
    rush.await.expect("the rush does not panic");
    phase("the waiting queue buys what comes back");
    crowd.sell_the_rest().await?;
    crowd.settle().await;

    phase("the audit reads every id");
    let (ids, products) = {
        let account = account.borrow();
        (account.ids(), account.products())
    };
    let books = fetch(&connect(&url, CONNECTIONS).await?, &ids, &products).await?;
    let findings = account.borrow_mut().judge(&books);
    let complete = stage.complete().await?;
    shown.abort();
    display.borrow_mut().close();
    Ok(Report {
        units: args.units,
        buyers: args.buyers,
        seed: args.seed,
        counts: crowd.meter.counts(),
        findings,
        yes_per_s: crowd.meter.yes_per_s(),
        no_per_s: crowd.meter.no_per_s(),
        times: crowd.meter.times(),
        cut,
        complete,
        took: began.elapsed(),
    })
}

/// Kills whoever leads, waits for the first answer after that, and has the killed one back with all that it missed.
async fn kill_the_leader(
    stage: &mut Stage,
    nodes: usize,
    url: &str,
    crowd: &Rc<Crowd>,
    account: &Rc<RefCell<Account>>,
) -> Result<Cut, Trouble> {
    let killed = stage.kill_leader(|| crowd.meter.killed()).await?;
    if nodes == 1 {
        // Nobody else has the data.
        let again = async { stage.start_again(killed).await.map_err(Trouble::from) };
        tokio::try_join!(again, async {
            first_answer(url, crowd, account).await;
            Ok(())
        })?;
    } else {
        first_answer(url, crowd, account).await;
    }
    let follows = stage.leader().await?;
    if nodes > 1 {
        stage.start_again(killed).await?;
    }
    let caught_up = stage.caught_up(killed).await?;
    Ok(Cut {
        rto: crowd.meter.rto(),
        reserved_again: crowd.meter.reserved_again(),
        killed,
        follows,
        caught_up,
    })
}

async fn connect(url: &str, connections: usize) -> Result<Client, Error> {
    let builder = Client::builder().name("sluice demo").connections(connections);
    builder.deadline(BUYER_PATIENCE).resolve_budget(BUYER_PATIENCE).connect(url).await
}

async fn put_up_for_sale(
    args: &DemoArgs,
    client: &Client,
    account: &Rc<RefCell<Account>>,
) -> Result<(), Trouble> {
    let hold_ms = HOLD.as_millis() as u32;
    let terms = Terms { opens_ms: 0, closes_ms: 0, per_user_limit: 1, hold_ms, unlimited: false };
    let put = client.put_product(PRODUCT, args.units, terms).await?;
    if !put.is_done() {
        return Err(Trouble::Put(put));
    }
    // Nothing will be added: so at the end "sold out" is said for good.
    let _sealed = client.seal(PRODUCT).await?;
    let promise = Promise { stock: args.units, per_user_limit: terms.per_user_limit, hold_ms };
    account.borrow_mut().product(PRODUCT, promise);
    Ok(())
}

/// Tries, on ever new connections, until a server that is alive has answered one buyer.
async fn first_answer(url: &str, crowd: &Rc<Crowd>, account: &Rc<RefCell<Account>>) {
    let witness = loop {
        if let Ok(Ok(client)) = timeout(KNOCK, connect(url, 1)).await {
            break Witness::new(client, Rc::clone(account));
        }
        sleep(KNOCK_PAUSE).await;
    };
    while !crowd.honest(&witness).await {}
}

/// Keeps the display up to date.
async fn show(crowd: Rc<Crowd>, display: Rc<RefCell<Display>>) {
    let mut product = None;
    loop {
        sleep(display::REFRESH).await;
        if !crowd.meter.is_out() {
            product = crowd.look(display::REFRESH).await.or(product);
        }
        display.borrow_mut().show(crowd.meter.counts(), product.as_ref());
    }
}
