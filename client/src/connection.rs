//! The task behind one connection: it finds a server, serves calls there, and finds another one when it must.
//!
//! It lives as long as a client that could call. While nothing is asked it waits without a timer; if the
//! server closes meanwhile, it connects again only when somebody calls. A connection goes to whoever leads, or to
//! one address, for reads. Deliberately not here: moving bytes ([`crate::serve`]), looking for the leader
//! ([`crate::search`]), whether a call is made again ([`crate::retry`]).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sluice_protocol::Kind;
use sluice_protocol::limits::ITEMS_MAX;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::call::{Call, Lost};
use crate::dial::Dial;
use crate::greet::{OwnCluster, Welcomed, greet};
use crate::intake::Intake;
use crate::retry::Jitter;
use crate::router::{Router, Server};
use crate::search::{Hopeless, find_leader};
use crate::serve::{Parting, Service};
use crate::trouble::Trouble;
use crate::url::Address;
use crate::vigil::Vigil;

/// The kind of row with the longest items: what fits of these fits of any.
const LONGEST_ROW: Kind = Kind::Reserve;

/// How long a search may go on before calls are rather given to connections that serve; and how often somebody
/// looks whether anybody still waits for it.
const SEARCH_IS_LONG: Duration = Duration::from_millis(100);

/// How long one address may take to welcome a connection for reads: others can answer them.
const READ_GREET_TIME: Duration = Duration::from_secs(1);

/// What all connections of a client share.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) name: String,
    pub(crate) credentials: Vec<u8>,
    pub(crate) patience: Duration,
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) router: Router,
    pub(crate) cluster: OwnCluster,
    pub(crate) jitter: Jitter,
}

/// Where a connection goes.
#[derive(Clone, Debug)]
pub(crate) enum Route {
    /// To whoever leads.
    Leader,
    /// Here, whoever that is.
    Here(Address),
}

/// A client's end of one connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) queue: mpsc::Sender<Call>,
    health: Arc<Health>,
}

/// What a connection's task lets callers know.
#[derive(Debug)]
struct Health {
    failing: AtomicBool,
    row_max: AtomicUsize,
    server: Mutex<Option<Address>>,
}

impl Link {
    /// Starts the task on the current runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub(crate) fn open(common: Arc<Common>, route: Route) -> Self {
        let (queue, intake) = Intake::new();
        let health = Arc::new(Health {
            failing: AtomicBool::new(false),
            row_max: AtomicUsize::new(ITEMS_MAX),
            server: Mutex::new(None),
        });
        let task = Connection { common, route, health: Arc::clone(&health), intake };
        tokio::spawn(task.run());
        Self { queue, health }
    }

    /// Whether calls have to wait for a connection.
    pub(crate) fn is_failing(&self) -> bool {
        self.health.failing.load(Ordering::Relaxed)
    }

    /// How many items of a row the server allows in a frame, whatever row it is.
    pub(crate) fn row_max(&self) -> usize {
        self.health.row_max.load(Ordering::Relaxed)
    }

    /// Where it is connected now.
    pub(crate) fn server(&self) -> Option<Address> {
        self.health.server.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Health {
    fn is_failing(&self, failing: bool) {
        self.failing.store(failing, Ordering::Relaxed);
    }

    fn is_at(&self, server: Option<Address>) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = server;
    }
}

/// No client is left.
struct Unwanted;

struct Connection {
    common: Arc<Common>,
    route: Route,
    health: Arc<Health>,
    intake: Intake,
}

impl Connection {
    async fn run(mut self) {
        while self.wait_for_calls().await {
            let found = match self.route.clone() {
                Route::Leader => self.find_leader().await,
                Route::Here(address) => self.connect(address).await,
            };
            let mut next = found;
            while let Some(welcomed) = next {
                let server = Server { address: welcomed.address.clone(), node: welcomed.greeting.node };
                self.health.is_failing(false);
                self.health.is_at(Some(server.address.clone()));
                let (parting, served) = self.serve(welcomed, &server).await;
                self.health.is_at(None);
                next = match self.part(&server, parting, served) {
                    Ok(moved) => moved,
                    Err(Unwanted) => return,
                };
            }
        }
    }

    /// Waits until somebody calls. `false`: nobody can any more.
    async fn wait_for_calls(&mut self) -> bool {
        if self.intake.is_wanted() {
            return true;
        }
        // Nothing is known against the next attempt, and only a caller can bring it about.
        self.health.is_failing(false);
        self.intake.first().await
    }

    /// Looks for the leader for as long as anybody waits for it.
    async fn find_leader(&mut self) -> Option<Welcomed> {
        let common = Arc::clone(&self.common);
        let search = find_leader(&common, None);
        tokio::pin!(search);
        loop {
            tokio::select! {
                found = &mut search => match found {
                    Ok(welcomed) => return Some(welcomed),
                    Err(Hopeless) => {
                        self.intake.fail_all(Lost::Hopeless);
                        return None;
                    }
                },
                () = sleep(SEARCH_IS_LONG) => {
                    self.health.is_failing(true);
                    if !self.intake.is_wanted() {
                        return None;
                    }
                }
            }
        }
    }

    /// Connects to the one address. If that fails, whoever waits is better served elsewhere.
    async fn connect(&mut self, address: Address) -> Option<Welcomed> {
        let greeted = greet(&self.common, address, READ_GREET_TIME).await;
        if greeted.is_err() {
            self.intake.fail_all(Lost::Unsent);
        }
        greeted.ok()
    }

    async fn serve(&mut self, welcomed: Welcomed, server: &Server) -> (Parting, bool) {
        let Welcomed { wire, session, inbound, greeting, .. } = welcomed;
        let row_max = greeting.limits.items_of(LONGEST_ROW).expect("rows have items");
        self.health.row_max.store(row_max, Ordering::Relaxed);
        let common = Arc::clone(&self.common);
        let needs_leader = matches!(self.route, Route::Leader);
        let vigil = match needs_leader {
            true => Vigil::over(Arc::clone(&common), server.clone()),
            false => Vigil::asleep(Arc::clone(&common), server.clone()),
        };
        let served = || {
            if needs_leader {
                common.router.served();
            }
        };
        Service::new(session, inbound, vigil, needs_leader).run(wire, &mut self.intake, served).await
    }

    /// Notes for the next search why this server serves no more. Hands on the next connection if there is one.
    fn part(&self, server: &Server, parting: Parting, served: bool) -> Result<Option<Welcomed>, Unwanted> {
        let (trouble, leader, moved) = match parting {
            Parting::Unwanted => return Err(Unwanted),
            Parting::Moved(welcomed) => (Trouble::Io("it fell silent".to_owned()), None, Some(*welcomed)),
            Parting::Elsewhere(leader) => (Trouble::NotLeading { node: server.node, leader }, leader, None),
            Parting::Trouble(trouble) => (trouble, None, None),
        };
        if let Route::Leader = self.route {
            self.common.router.disappointed(&server.address, trouble);
            if !served {
                self.common.router.count_flap();
            }
            if let Some(leader) = leader {
                self.common.router.named(leader);
            }
        }
        Ok(moved)
    }
}
