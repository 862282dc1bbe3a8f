//! Members of one group that come, go and die while a shop sells; and what a group that must keep up does to buyers when
//! nobody takes its events.
//!
//! Each member has a thread and a runtime of its own, so that it can end as a process does: at once, and without a word.
//! Another seed each time; SLUICE_TEST_SEED repeats one, as far as the machine does.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod rig;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use sluice_client::{Client, Consumed, GroupTerms, ProductId, Reserve, ReserveOutcome, UserId};
use sluice_engine::audit::Promise;
use tokio::sync::oneshot;

use self::rig::taker::{Taker, last_sequence};
use self::rig::{Rig, run, seed};

/// Changes of who is a member.
const CHANGES: u64 = 14;

/// Members at a time.
const MEMBERS_MAX: usize = 3;

/// Answers between changes, at most.
const ANSWERS_MAX: u64 = 4_000;

/// Products: enough that every member has some.
const PRODUCTS: usize = 24;

/// How long a member that died keeps its seat: short, so that others go on.
const SESSION_MS: u32 = 1_000;

/// So many events behind, and buyers queue.
const REQUIRED_LAG: u64 = 200;

/// A delivery: which member got which event, and whether it could acknowledge it.
#[derive(Clone, Copy, Debug)]
struct Delivered {
    member: usize,
    product: ProductId,
    sequence: u64,
    counts: bool,
}

/// What all members did, in one order.
type Diary = Arc<Mutex<Vec<Delivered>>>;

/// How a member is to end.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Leaves,
    Dies,
}

struct Member {
    end: oneshot::Sender<Ending>,
    thread: JoinHandle<()>,
}

impl Member {
    fn start(number: usize, url: String, diary: Diary) -> Self {
        let (end, ended) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(take(number, &url, &diary, ended));
            // Whoever has not left by now is cut off in the midst of what it was at.
            runtime.shutdown_background();
        });
        Self { end, thread }
    }

    fn end(self, ending: Ending) {
        self.end.send(ending).unwrap();
        self.thread.join().unwrap();
    }
}

async fn take(member: usize, url: &str, diary: &Diary, mut ended: oneshot::Receiver<Ending>) {
    let client = Client::builder().deadline(rig::PATIENCE).connect(url).await.unwrap();
    let terms = GroupTerms { session_ms: SESSION_MS, ..GroupTerms::default() };
    let mut consumer = client.consume("orders").terms(terms).open().await.unwrap();
    loop {
        let next = tokio::select! {
            next = consumer.next() => next.unwrap(),
            ending = &mut ended => {
                if let Ending::Leaves = ending.unwrap() {
                    // What it could not acknowledge has moved to another member, and is delivered there.
                    let _ = consumer.close().await;
                }
                return;
            }
        };
        match next {
            Ok(Consumed::Event(delivery)) => {
                let event = *delivery.event();
                // Held while it is acknowledged, so that the diary's order is that of what happened.
                let mut diary = diary.lock().unwrap();
                let counts = delivery.ack().is_ok();
                diary.push(Delivered { member, product: event.product, sequence: event.sequence, counts });
            }
            Ok(other) => panic!("nothing is given up or lost: {other:?}"),
            Err(error) => assert!(error.is_passing(), "{error}"),
        }
    }
}

#[test]
fn whoever_comes_goes_or_dies_each_product_keeps_its_order_and_nothing_is_lost() {
    run(async {
        let rig = Rig::start(seed(), &[]).await;
        let promises = vec![Promise { stock: 1_000_000, per_user_limit: 0, hold_ms: 600_000 }; PRODUCTS];
        let diary = Diary::default();
        let mut members = vec![Member::start(0, rig.url.clone(), Arc::clone(&diary))];
        let load = rig.under_load(&promises).await;
        let (mut left, mut died) = (0, 0);
        for number in 1..=CHANGES as usize {
            let answers = load.crowd.answers(1 + rig.dice.below(ANSWERS_MAX) as usize);
            rig.wait("answers", answers).await;
            if members.len() < MEMBERS_MAX && (members.len() < 2 || rig.dice.below(2) == 0) {
                members.push(Member::start(number, rig.url.clone(), Arc::clone(&diary)));
                continue;
            }
            let member = members.remove(rig.dice.below(members.len() as u64) as usize);
            let ending = if rig.dice.below(2) == 0 { Ending::Leaves } else { Ending::Dies };
            *(if matches!(ending, Ending::Leaves) { &mut left } else { &mut died }) += 1;
            tokio::task::spawn_blocking(move || member.end(ending)).await.unwrap();
        }
        let account = rig.wait("everybody to be answered", load.finish()).await;
        rig.audit(&account).await;
        let client = rig.client().await;
        let last = last_sequence(&client).await;
        let all_acknowledged = async {
            while client.group("orders").await.unwrap().unwrap().cursor < last {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        rig.wait("the group to have acknowledged everything", all_acknowledged).await;
        for member in members {
            tokio::task::spawn_blocking(move || member.end(Ending::Leaves)).await.unwrap();
        }
        let (all, again) = judge(&diary.lock().unwrap(), last);
        eprintln!("{all} events, {again} deliveries again; {left} left, {died} died");
        assert!(died + left > 0 && last > 1_000);
    });
}

/// That each event was acknowledged, and that whoever keeps the last sequence of each product has each effect once and in
/// order. How many events there are, and how many deliveries came again.
fn judge(diary: &[Delivered], last: u64) -> (usize, usize) {
    let counted: BTreeSet<u64> =
        diary.iter().filter(|entry| entry.counts).map(|entry| entry.sequence).collect();
    assert!(counted.iter().copied().eq(1..=last), "{} of {last} were acknowledged", counted.len());
    let mut of_product: BTreeMap<ProductId, BTreeSet<u64>> = BTreeMap::new();
    for entry in diary {
        of_product.entry(entry.product).or_default().insert(entry.sequence);
    }
    let mut done: BTreeMap<ProductId, u64> = BTreeMap::new();
    let mut effects = 0;
    for entry in diary.iter().filter(|entry| entry.counts) {
        let before = done.entry(entry.product).or_default();
        if entry.sequence <= *before {
            continue;
        }
        let next = of_product[&entry.product].range(*before + 1..).next();
        assert_eq!(next, Some(&entry.sequence), "{entry:?} overtook what is before it");
        *before = entry.sequence;
        effects += 1;
    }
    assert_eq!(effects as u64, last, "an effect is missing");
    let hands: BTreeSet<usize> = diary.iter().map(|entry| entry.member).collect();
    assert!(hands.len() > 1, "one member took everything");
    (effects, diary.len() - effects)
}

#[test]
fn buyers_queue_while_a_required_group_is_behind_and_buy_when_it_has_caught_up() {
    run(async {
        let rig = Rig::start(seed(), &[]).await;
        let client = rig.client().await;
        let promise = Promise { stock: 1_000_000, per_user_limit: 0, hold_ms: 600_000 };
        rig.open_sale(&client, &[promise]).await;
        let terms = GroupTerms { required_lag_max: REQUIRED_LAG, ..GroupTerms::default() };
        let consume = || client.consume("orders").terms(terms);
        consume().open().await.unwrap().close().await.unwrap();

        let mut bought = 0;
        let queued = loop {
            let order = Reserve::new(1, UserId(bought + 1), 1);
            match client.reserve_with(order).await.unwrap() {
                ReserveOutcome::Reserved { .. } => bought += 1,
                ReserveOutcome::Queueing { id, place, .. } => break (id, place),
                other => panic!("{other:?}"),
            }
            assert!(bought <= REQUIRED_LAG + 1, "nobody is held back");
        };
        let group = client.group("orders").await.unwrap().unwrap();
        let lag = last_sequence(&client).await - group.cursor;
        assert!(lag >= REQUIRED_LAG && (1..=lag + 1).contains(&queued.1), "place {} of {lag}", queued.1);

        let taker = Taker::start(consume()).await;
        rig.wait("the group to catch up", taker.has_upto(group.cursor + lag)).await;
        let again = async {
            loop {
                let order = Reserve::new(1, UserId(bought + 1), 1).id(queued.0);
                match client.reserve_with(order).await.unwrap() {
                    ReserveOutcome::Reserved { .. } => return,
                    ReserveOutcome::Queueing { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        };
        rig.wait("whoever queued to buy", again).await;
        taker.stop().await;
        eprintln!("{bought} bought before anybody queued, at place {}", queued.1);
    });
}
