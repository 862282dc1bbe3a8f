//! The search for the server that leads: who is asked, in which order, how often.
//!
//! - Whoever says that it leads itself is taken. A server that names another is a hint to ask that one next.
//! - A server that does not answer at once holds nobody up: a little later the next one is asked beside it.
//! - One that fails is passed over without a pause. While some answer and nobody leads they are asked in turn, every
//!   20 to 40 ms; while none answers, ever more slowly, up to about a tenth of a second.
//! - Of all connections of a client one searches at a time. The others wait, and then know.
//!
//! So a client meets a new leader within a tenth of a second, and however many connections it has, each server is
//! asked at most some fifty times a second. Deliberately not here: what calls do meanwhile ([`crate::connection`]).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::connection::Common;
use crate::greet::{Welcomed, greet};
use crate::retry::{connect_pause, poll_pause};
use crate::router::{Router, Server};
use crate::trouble::Trouble;
use crate::url::Address;

/// How long a server may take to welcome before the next one is asked beside it.
const HEDGE: Duration = Duration::from_millis(40);

/// How long the known leader may take to welcome one more connection before others are asked where it went.
const KNOWN_TIME: Duration = Duration::from_millis(250);

/// How long connecting and being welcomed may take at first; it grows by as much while all of it is in vain.
const GREET_TIME: Duration = Duration::from_secs(1);
const GREET_TIMES_MAX: u32 = 3;

/// No address of the URL has a server for this client, and waiting cannot help.
#[derive(Debug)]
pub(crate) struct Hopeless;

/// Looks for a server that leads, and is not the one to avoid, until there is one.
pub(crate) async fn find_leader(common: &Common, avoid: Option<&Server>) -> Result<Welcomed, Hopeless> {
    let router = &common.router;
    if router.flaps() == 0
        && let Some(welcomed) = ask_known(common, avoid).await
    {
        return Ok(welcomed);
    }
    let _turn = router.search().await;
    // A server that welcomes and then does not serve is asked no more often than one that refuses.
    if let Some(before) = router.flaps().checked_sub(1) {
        sleep(connect_pause(before, &common.jitter)).await;
    }
    match ask_known(common, avoid).await {
        Some(welcomed) => Ok(welcomed),
        None => Search::new(common, avoid).run().await,
    }
}

/// Asks the leader that others found, if it is known.
async fn ask_known(common: &Common, avoid: Option<&Server>) -> Option<Welcomed> {
    let known = common.router.leader(avoid)?;
    let greeted = greet(common, known.clone(), KNOWN_TIME).await;
    match hear(&common.router, &known, greeted, avoid) {
        Heard::Leader(welcomed) => Some(*welcomed),
        Heard::Follower(_) | Heard::Nothing => None,
    }
}

/// What came of asking a server.
enum Heard {
    Leader(Box<Welcomed>),
    /// It does not lead. Where the leader may be: where this client met it before, and where the server says.
    Follower([Option<Address>; 2]),
    Nothing,
}

/// Notes what came of asking a server.
fn hear(
    router: &Router,
    address: &Address,
    greeted: Result<Welcomed, Trouble>,
    avoid: Option<&Server>,
) -> Heard {
    let welcomed = match greeted {
        Ok(welcomed) => welcomed,
        Err(trouble) => {
            router.disappointed(address, trouble);
            return Heard::Nothing;
        }
    };
    let greeting = &welcomed.greeting;
    let server = Server { address: address.clone(), node: greeting.node };
    router.introduced(server.clone());
    let others = |node| avoid.is_none_or(|avoid| avoid.node != node);
    if greeting.leads() && others(greeting.node) {
        router.leads(server);
        return Heard::Leader(Box::new(welcomed));
    }
    router.disappointed(address, Trouble::NotLeading { node: greeting.node, leader: greeting.leader });
    match greeting.leader.filter(|leader| others(*leader)) {
        Some(leader) => Heard::Follower([router.address_of(leader), greeting.leader_address.clone()]),
        None => Heard::Follower([None, None]),
    }
}

/// A greeting under way.
type Greeting<'a> = Pin<Box<dyn Future<Output = Result<Welcomed, Trouble>> + Send + 'a>>;

struct Search<'a> {
    common: &'a Common,
    avoid: Option<&'a Server>,
    under_way: Vec<(Address, Greeting<'a>)>,
    /// Who is still to be asked before everybody is asked again.
    lap: VecDeque<Address>,
    /// Who was asked in this lap.
    asked: Vec<Address>,
    /// Who was last said to lead.
    named: Option<Address>,
    /// Whether anybody answered in this lap.
    answered: bool,
    /// Laps in which nobody did.
    fruitless: u32,
    /// When the next one is asked, whatever those under way do.
    next_at: Instant,
}

impl<'a> Search<'a> {
    fn new(common: &'a Common, avoid: Option<&'a Server>) -> Self {
        Self {
            common,
            avoid,
            under_way: Vec::new(),
            lap: common.router.lap(avoid).into(),
            asked: Vec::new(),
            named: None,
            answered: false,
            fruitless: 0,
            next_at: Instant::now(),
        }
    }

    async fn run(mut self) -> Result<Welcomed, Hopeless> {
        loop {
            tokio::select! {
                biased;
                (address, greeted) = first_of(&mut self.under_way), if !self.under_way.is_empty() => {
                    match hear(&self.common.router, &address, greeted, self.avoid) {
                        Heard::Leader(welcomed) => return Ok(*welcomed),
                        Heard::Follower(leader) => self.follow(leader),
                        Heard::Nothing if self.common.router.is_hopeless() => {
                            self.common.router.count_flap();
                            return Err(Hopeless);
                        }
                        Heard::Nothing => self.pass_over(&address),
                    }
                }
                () = sleep_until(self.next_at) => self.ask_next(),
            }
        }
    }
    fn ask_next(&mut self) {
        let now = Instant::now();
        self.next_at = now + HEDGE;
        let Some(address) = self.lap.pop_front() else { return self.begin_lap(now) };
        let time = GREET_TIME * (1 + self.fruitless).min(GREET_TIMES_MAX);
        self.asked.push(address.clone());
        self.under_way.push((address.clone(), Box::pin(greet(self.common, address, time))));
    }

    /// Everybody was asked, or is being asked. Begins again with those who are not.
    fn begin_lap(&mut self, now: Instant) {
        self.asked = self.under_way.iter().map(|(address, _)| address.clone()).collect();
        self.lap = self.common.router.lap(self.avoid).into();
        self.lap.retain(|address| !self.asked.contains(address));
        if self.lap.is_empty() {
            return;
        }
        // Between those who answer there was a pause each.
        self.next_at = now;
        if !self.answered {
            self.next_at += connect_pause(self.fruitless, &self.common.jitter);
            self.fruitless += 1;
        }
        (self.answered, self.named) = (false, None);
    }

    /// A server answered that another one leads, or nobody.
    fn follow(&mut self, leader: [Option<Address>; 2]) {
        self.answered = true;
        match leader.into_iter().flatten().find(|leader| !self.asked.contains(leader)) {
            Some(leader) => {
                self.lap.retain(|address| *address != leader);
                self.lap.push_front(leader.clone());
                self.named = Some(leader);
                self.next_at = Instant::now();
            }
            None => self.next_at = Instant::now() + poll_pause(&self.common.jitter),
        }
    }

    /// A server failed. If everything waited for it, the next one is asked: at once, unless the last one that
    /// answered had sent us there.
    fn pass_over(&mut self, address: &Address) {
        if self.asked.last() == Some(address) {
            let was_named = self.named.as_ref() == Some(address);
            let pause = if was_named { poll_pause(&self.common.jitter) } else { Duration::ZERO };
            self.next_at = Instant::now() + pause;
        }
    }
}

/// The first greeting to end, taken out of the list.
async fn first_of(under_way: &mut Vec<(Address, Greeting<'_>)>) -> (Address, Result<Welcomed, Trouble>) {
    poll_fn(|context| {
        for at in 0..under_way.len() {
            if let Poll::Ready(greeted) = under_way[at].1.as_mut().poll(context) {
                let (address, _) = under_way.swap_remove(at);
                return Poll::Ready((address, greeted));
            }
        }
        Poll::Pending
    })
    .await
}
