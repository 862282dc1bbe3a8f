//! The same workloads through the client crate: so many callers, each with one call at a time.
//!
//! What a shop would see. All on one thread, as the lean generator is. Closed loop only: tokio's timers are too coarse
//! for due times. Deliberately not here: packing; that is the client's own affair.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use sluice_client::{CancelOutcome, Client, ConfirmOutcome, Error, Reserve, ReserveOutcome};
use tokio::task::LocalSet;

use crate::error::BenchError;
use crate::line::Landed;
use crate::measure::{Measured, Meter};
use crate::process::Process;
use crate::speech::Tally;
use crate::workload::{Kind, Workload};

/// How often the meter is looked at.
const METER_TURN: Duration = Duration::from_millis(10);

/// Mixed: of so many reservations one is cancelled, the others are confirmed.
const CANCEL_EVERY: u64 = 4;

/// How many call, and for how long.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Callers {
    /// Calls at a time.
    pub callers: usize,
    /// Connections that they share.
    pub connections: usize,
    /// Not measured.
    pub warm_up: Duration,
    /// Measured.
    pub measure: Duration,
}

/// What all callers share.
struct Shared {
    client: Client,
    workload: Workload,
    began: Instant,
    ends_ns: f64,
    state: RefCell<State>,
}

struct State {
    next: u64,
    tally: Tally,
    meter: Meter,
}

/// Lets the callers call.
///
/// # Errors
/// If the server does not greet the client.
///
/// # Panics
/// Never: nothing keeps the state when all callers have ended.
pub fn call(
    url: &str,
    workload: Workload,
    plan: &Callers,
    server: Option<&Process>,
    watch: &mut dyn FnMut(&Meter),
) -> Result<Measured, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(BenchError::io("starting a runtime"))?;
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let client =
            Client::builder().name("sluice-bench").connections(plan.connections).connect(url).await?;
        let meter = Meter::new(plan.warm_up, plan.measure, true);
        let shared = Rc::new(Shared {
            client,
            workload,
            began: Instant::now(),
            ends_ns: meter.ends_ns(),
            state: RefCell::new(State { next: 0, tally: Tally::default(), meter }),
        });
        let callers: Vec<_> =
            (0..plan.callers).map(|_| tokio::task::spawn_local(caller(Rc::clone(&shared)))).collect();
        while shared.now_ns() < shared.ends_ns {
            shared.turn(server, watch);
            tokio::time::sleep(METER_TURN).await;
        }
        shared.turn(server, watch);
        for caller in callers {
            caller.await.expect("callers do not panic");
        }
        let shared = Rc::into_inner(shared).expect("all callers have ended");
        Ok(shared.state.into_inner().meter.finish(0, 0))
    })
}

impl Shared {
    fn now_ns(&self) -> f64 {
        self.began.elapsed().as_nanos() as f64
    }

    fn turn(&self, server: Option<&Process>, watch: &mut dyn FnMut(&Meter)) {
        let mut state = self.state.borrow_mut();
        let tally = state.tally;
        if state.meter.turn(self.now_ns(), tally, server) {
            watch(&state.meter);
        }
    }

    fn next(&self) -> u64 {
        let mut state = self.state.borrow_mut();
        state.next += 1;
        state.next
    }

    fn landed(&self, sent_ns: f64, count: impl FnOnce(&mut Tally)) {
        let mut state = self.state.borrow_mut();
        state.meter.record(Landed { due_ns: sent_ns, step_ns: 0.0, items: 1 }, self.now_ns());
        count(&mut state.tally);
    }
}

async fn caller(shared: Rc<Shared>) {
    while shared.now_ns() < shared.ends_ns {
        let number = shared.next();
        let wish = shared.workload.wish(number);
        let sent_ns = shared.now_ns();
        let order = Reserve::new(wish.product, wish.user, 1).fresh_id(wish.id);
        let outcome = shared.client.reserve_with(order).await;
        let is_reserved = matches!(outcome, Ok(ReserveOutcome::Reserved { .. }));
        shared.landed(sent_ns, |tally| match outcome {
            Ok(ReserveOutcome::Reserved { .. }) => tally.accepted += 1,
            Ok(_) => tally.refused += 1,
            Err(error) => count_error(tally, &error),
        });
        if is_reserved && shared.workload.kind() == Kind::Mixed {
            settle(&shared, number).await;
        }
    }
}

/// Confirms or cancels what was just reserved.
async fn settle(shared: &Shared, number: u64) {
    let id = shared.workload.wish(number).id;
    let sent_ns = shared.now_ns();
    let done = if number.is_multiple_of(CANCEL_EVERY) {
        shared.client.cancel(id, 0).await.map(|outcome| matches!(outcome, CancelOutcome::Cancelled { .. }))
    } else {
        shared.client.confirm(id).await.map(|outcome| matches!(outcome, ConfirmOutcome::Confirmed { .. }))
    };
    shared.landed(sent_ns, |tally| match done {
        Ok(true) => tally.accepted += 1,
        Ok(false) => tally.other += 1,
        Err(error) => count_error(tally, &error),
    });
}

fn count_error(tally: &mut Tally, error: &Error) {
    match error {
        Error::Busy { .. } => tally.busy += 1,
        _ => tally.other += 1,
    }
}
