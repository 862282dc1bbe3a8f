//! The world: hosts with real cores, the network between them, clients, and time, all on one thread and decided by one
//! seed.
//!
//! - `schedule`, `event`: virtual time, and what happens in it
//! - `host`, `process`: machines and what runs on them
//! - `life`: processes start, turn, write, stop and die
//! - `carry`: messages, requests and replies on their way
//! - `events`: the files of events, and who reads them; `consumed`: consumers' requests and replies
//! - `watch`: what the judges are told
//! - `faults`: what the nemesis does
//! - `operator`: who changes the membership
//! - `settle`: the end, when all faults are over and everything must come right
//!
//! Relies on: `Checkers` to judge. Deliberately not here: what a run is (`plan`), and many of them (`campaign`).

mod carry;
mod consumed;
mod event;
mod events;
mod faults;
mod host;
mod life;
mod operator;
mod process;
mod schedule;
mod settle;
mod watch;

use std::fmt;

use sluice_core::ledger::Ledger;
use sluice_core::replica::disk::{Members, SnapshotMeta};
use sluice_protocol::ids::ClusterId;

pub(crate) use self::event::Request;
use self::event::{Event, Input};
use self::faults::Active;
use self::host::Host;
use self::operator::Operator;
use self::schedule::Schedule;
use crate::clock::{START_MS, SimClock};
use crate::coverage::Coverage;
use crate::disk::{SimDisk, SnapshotFile};
use crate::nemesis::{self, Step};
use crate::net::SimNet;
use crate::plan::{Mode, Plan};
use crate::random::Random;
use crate::trace::Trace;
use crate::workload::consumers::FIRST;
use crate::workload::{Steer, Workload};
use sluice_judges::checkers::{Checkers, Setup, Tally, Violation};

/// The cluster's id. The same in every world.
const CLUSTER: ClusterId = ClusterId(0x51u128);

/// What ended a run that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Who noticed.
    pub checker: String,
    /// What.
    pub what: String,
    /// When, in virtual time.
    pub at_us: u64,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:.6} s: {}", self.checker, self.at_us as f64 / 1e6, self.what)
    }
}

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// What it was.
    pub plan: Plan,
    /// What broke, if something did.
    pub failure: Option<Failure>,
    /// The number of all that happened.
    pub hash: u64,
    /// How much happened.
    pub events: u64,
    /// Virtual time that passed.
    pub simulated_us: u64,
    /// What it has been through.
    pub coverage: Coverage,
    /// What the judges counted; nothing if the run failed before.
    pub tally: Tally,
    /// The steps of its nemesis.
    pub steps: Vec<Step>,
    /// What happened, line by line, if that was asked for.
    pub lines: Vec<String>,
}

/// See the module.
pub struct World {
    plan: Plan,
    random: Random,
    schedule: Schedule<Event>,
    hosts: Vec<Host>,
    net: SimNet,
    workload: Workload,
    steps: Vec<Step>,
    active: Vec<Active>,
    operator: Operator,
    judges: Checkers,
    coverage: Coverage,
    trace: Trace,
    failure: Option<Failure>,
    /// Nodes that may serve, as the latest leader knows them.
    directory: Vec<u64>,
    /// The latest membership anybody applied, and its index.
    members: (u64, Members),
    is_healed: bool,
    /// The latest ledger time of any node.
    ledger_ms: u64,
    /// What the right time is ahead of true time since then, milliseconds.
    ahead_ms: u64,
}

impl World {
    /// The world of a plan, before anything has happened.
    pub fn new(plan: Plan, tells: bool) -> Self {
        let random = plan.random("world", 0);
        let voters: Vec<u64> = (1..=plan.voters).collect();
        let incarnations = voters.iter().map(|node| (*node, plan.random("disk", *node).word())).collect();
        let members = Members { voters: voters.clone(), incarnations, ..Members::default() };
        let steps = nemesis::schedule(&plan);
        let times: Vec<u64> = steps.iter().map(|step| step.at_us).filter(|at| *at != u64::MAX).collect();
        let setup = Setup {
            members: members.clone(),
            settings: plan.settings,
            honest: plan.honest,
            search: plan.mode == Mode::Small,
            wait_us_max: settle::WAIT_US_MAX,
            ..Setup::new(&voters)
        };
        let setup = Setup { digest_every: if plan.cut.no_digests { 0 } else { setup.digest_every }, ..setup };
        let mut world = Self {
            schedule: Schedule::new(),
            hosts: Vec::new(),
            net: SimNet::new(plan.random("net", 0)),
            workload: Workload::new(&plan, &times),
            steps,
            active: Vec::new(),
            operator: Operator::new(&plan),
            judges: Checkers::new(setup),
            coverage: Coverage::default(),
            trace: Trace::new(tells),
            failure: None,
            directory: voters.clone(),
            members: (0, members.clone()),
            is_healed: false,
            ledger_ms: 0,
            ahead_ms: 0,
            random,
            plan,
        };
        for node in voters {
            world.add_host(node, members.clone());
        }
        world.begin();
        world
    }

    /// A new machine with an empty disk.
    fn add_host(&mut self, node: u64, members: Members) -> usize {
        let number = self.hosts.len();
        let mut random = self.plan.random("host", number as u64);
        let disk = self.new_disk(node, members);
        let skew_ms = random.between(0, 400) as i64 - 200;
        let drift_ppm = random.between(0, 200) as i64 - 100;
        let mut clock = SimClock::new(skew_ms, drift_ppm);
        if self.is_healed {
            clock.set(self.now_us(), START_MS + self.now_us() / 1000 + self.ahead_ms);
        }
        self.hosts.push(Host::new(node, disk, clock, random));
        number
    }

    fn new_disk(&self, node: u64, members: Members) -> SimDisk {
        let image = Ledger::new(self.plan.settings, 0).freeze();
        let genesis = SnapshotFile::new(SnapshotMeta { index: 0, term: 0, members }, image.sections());
        SimDisk::new(self.plan.random("disk", node).word(), genesis)
    }

    /// Orders everything that the plan says.
    fn begin(&mut self) {
        for host in 0..self.hosts.len() {
            let at_us = self.random.below(50_000);
            self.schedule.at(at_us, Event::Start { host });
        }
        for (number, step) in self.steps.iter().enumerate().filter(|(_, step)| step.at_us != u64::MAX) {
            self.schedule.at(step.at_us, Event::Fault(number));
        }
        for (number, job) in self.workload.jobs.iter().enumerate() {
            if job.begins_us != u64::MAX {
                self.schedule.at(job.begins_us, Event::Job(number));
            }
        }
        for actor in 0..self.workload.consumers.len() {
            let at_us = self.random.below(3_000_000);
            self.schedule.at(at_us, Event::Consumer(actor));
        }
        self.schedule.at(1_000_000, Event::Operator);
    }

    fn now_us(&self) -> u64 {
        self.schedule.now_us()
    }

    /// Ends the run: an invariant is broken.
    fn fail(&mut self, checker: &str, what: String) {
        if self.failure.is_none() {
            let at_us = self.now_us();
            self.trace.say(at_us, || format!("FAILURE {checker}: {what}"));
            self.failure = Some(Failure { checker: checker.to_owned(), what, at_us });
        }
    }

    fn heed(&mut self, judged: Result<(), Violation>) {
        if let Err(violation) = judged {
            self.fail(violation.checker, violation.what);
        }
    }

    /// Lets everything happen up to a time, or to the first failure.
    fn run_until(&mut self, until_us: u64) {
        while self.failure.is_none() {
            let Some(event) = self.schedule.next(until_us) else { return };
            self.handle(event);
        }
    }

    /// The whole run.
    pub fn run(mut self) -> Outcome {
        self.run_until(self.plan.span_us);
        if self.failure.is_none() {
            self.settle();
        }
        let simulated_us = self.now_us();
        let mut tally = Tally::default();
        if self.failure.is_none() {
            let judges = std::mem::replace(&mut self.judges, Checkers::new(Setup::new(&[])));
            match judges.finish() {
                Ok(counted) => tally = counted,
                Err(violation) => self.fail(violation.checker, violation.what),
            }
        }
        Outcome {
            failure: self.failure,
            hash: self.trace.hash(),
            events: self.trace.events(),
            simulated_us,
            coverage: self.coverage,
            tally,
            steps: self.steps,
            lines: self.trace.lines().to_vec(),
            plan: self.plan,
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Process { host, life, input } => {
                if self.hosts[host].life != life {
                    return;
                }
                if self.hosts[host].is_paused() {
                    self.hosts[host].backlog.push(Event::Process { host, life, input });
                    return;
                }
                self.trace.event(self.schedule.now_us(), 1, host as u64);
                self.input(host, input);
            }
            Event::Peer { host, bytes } => self.arrive(host, bytes),
            Event::Request { host, request } => self.request(host, *request),
            Event::Replies { correlation, replies } => {
                self.trace.event(self.schedule.now_us(), 4, correlation);
                if correlation >= FIRST {
                    return self.consumer_hears(correlation, &replies);
                }
                self.talk(|workload, steer| workload.heard(correlation, replies, steer));
            }
            Event::GiveUp { correlation } if correlation >= FIRST => {
                let on = self.workload.consumers.gave_up(correlation, &self.directory);
                if let Some((actor, delay_us)) = on {
                    self.schedule.after(delay_us, Event::Consumer(actor));
                }
            }
            Event::GiveUp { correlation } => {
                self.talk(|workload, steer| Ok(workload.gave_up(correlation, steer)));
            }
            Event::Job(job) => self.job(job),
            Event::Consumer(actor) => self.consumer(actor),
            Event::Fault(step) => self.begin_fault(step),
            Event::FaultOver(step) => self.end_fault(step),
            Event::FaultGoesOn { step, round } => self.continue_fault(step, round),
            Event::Start { host } => self.start(host),
            Event::Operator => self.operate(),
        }
    }

    fn order(&mut self, host: usize, delay_us: u64, input: Input) {
        let life = self.hosts[host].life;
        self.schedule.after(delay_us, Event::Process { host, life, input });
    }

    /// Lets clients do something with what they may see of the world.
    fn steer<T>(&mut self, what: impl FnOnce(&mut Workload, &mut Steer<'_>) -> T) -> T {
        let running = self.running();
        let readers: Vec<u64> = self.members.1.nodes().collect();
        let mut steer = Steer {
            now_us: self.schedule.now_us(),
            nodes: &self.directory,
            readers: &readers,
            running: &running,
            judges: &mut self.judges,
            coverage: &mut self.coverage,
        };
        what(&mut self.workload, &mut steer)
    }

    /// Lets clients hear or do something, and orders what they do next.
    fn talk(
        &mut self,
        what: impl FnOnce(&mut Workload, &mut Steer<'_>) -> Result<Vec<(usize, u64)>, Violation>,
    ) {
        match self.steer(what) {
            Ok(on) => {
                for (job, delay_us) in on {
                    self.schedule.after(delay_us, Event::Job(job));
                }
            }
            Err(violation) => self.fail(violation.checker, violation.what),
        }
    }
}
