//! What is sent and heard, and what a client makes of it.

use sluice_protocol::request::{IdItem, ReserveItem};
use sluice_protocol::{ProductId, ReservationId, Status, UserId};

use super::{Frame, Job, Stage, Workload, kind};
use crate::coverage::{Coverage, Path};
use crate::random::Random;
use crate::world::Request;
use sluice_judges::checkers::Checkers;
use sluice_judges::checkers::Violation;
use sluice_judges::history::{Ask, Call, Reply};

const MS_US: u64 = 1000;

/// A frame to be carried to a node.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) node: u64,
    pub(crate) request: Request,
    /// When its client stops waiting, microseconds from now.
    pub(crate) patience_us: u64,
}

/// What of the world a client sees, and whom it tells.
pub(crate) struct Steer<'a> {
    pub(crate) now_us: u64,
    /// Nodes that may serve.
    pub(crate) nodes: &'a [u64],
    /// Nodes that may be read from: those, and who learns.
    pub(crate) readers: &'a [u64],
    /// Nodes that can be connected to.
    pub(crate) running: &'a [u64],
    pub(crate) judges: &'a mut Checkers,
    pub(crate) coverage: &'a mut Coverage,
}

/// What a client does about an answer.
enum Next {
    /// That was the answer.
    On,
    /// Nothing was done: again, so much later.
    Again(u64),
    /// Nobody knows.
    Doubt,
}

impl Workload {
    /// A job's time has come: the frame it sends, if it waits for none.
    ///
    /// # Errors
    /// When it tries again, microseconds from now, if there was nobody to connect to.
    pub(crate) fn due(&mut self, job: usize, steer: &mut Steer<'_>) -> Result<Option<Sending>, u64> {
        if self.jobs[job].flying.is_some() {
            return Ok(None);
        }
        let flock = std::mem::take(&mut self.jobs[job].flock);
        let jobs: Vec<usize> = std::iter::once(job).chain(flock).collect();
        let asks: Vec<Ask> = jobs.iter().map_while(|job| self.current(*job)).collect();
        if asks.is_empty() || asks.len() < jobs.len() {
            return Ok(None);
        }
        let client = self.jobs[job].client;
        let reads = matches!(asks[0], Ask::QueryReservation(_) | Ask::QueryProduct(_) | Ask::List(_));
        let reader = *self.random.pick(steer.readers);
        let node = if reads && self.random.chance(2, 3) { reader } else { self.targets[client] };
        // Whoever finds nobody to connect to has sent nothing.
        if !steer.running.contains(&node) {
            self.targets[client] = *self.random.pick(steer.nodes);
            self.jobs[job].flock = jobs[1..].to_vec();
            return Err(self.random.spread(1, 200) * MS_US);
        }
        let sent_us = steer.now_us;
        let call = |ask: &Ask| Call { client: client as u32, node, ask: *ask, sent_us, heard: None };
        let calls = asks.iter().map(|ask| steer.judges.sent(call(ask))).collect();
        self.correlation += 1;
        let correlation = self.correlation;
        for job in &jobs {
            self.jobs[*job].flying = Some(correlation);
        }
        self.frames.insert(correlation, Frame { client, node, calls, jobs, is_given_up: false });
        let budget_ms = self.random.spread(50, 2500) as u32;
        let slack_ms = if self.random.chance(1, 6) { 0 } else { self.random.between(100, 1500) };
        let patience_us = (u64::from(budget_ms) * self.random.between(1, 2) / 2 + slack_ms + 5) * MS_US;
        let request = Request { client, correlation, kind: kind(&asks[0]), asks, budget_ms, fetch: None };
        Ok(Some(Sending { node, request, patience_us }))
    }

    /// What a job asks now, with its attempt.
    fn current(&self, job: usize) -> Option<Ask> {
        let job = &self.jobs[job];
        let mut ask = job.stages.front()?.ask;
        match &mut ask {
            Ask::Reserve(item) => item.attempt = job.attempt,
            Ask::Restock(item) | Ask::WriteOff(item) => item.attempt = job.attempt,
            _ => {}
        }
        Some(ask)
    }

    /// Replies have come. Returns jobs that go on, and when, microseconds from now.
    ///
    /// # Errors
    /// [`Violation`] of a judge.
    pub(crate) fn heard(
        &mut self,
        correlation: u64,
        replies: Vec<Reply>,
        steer: &mut Steer<'_>,
    ) -> Result<Vec<(usize, u64)>, Violation> {
        let Some(frame) = self.frames.remove(&correlation) else { return Ok(Vec::new()) };
        if frame.is_given_up {
            steer.coverage.hit(Path::LateReply);
        }
        let mut on = Vec::new();
        for ((call, job), reply) in frame.calls.iter().zip(&frame.jobs).zip(replies) {
            for answer in reply.answers() {
                steer.coverage.heard(answer.status_byte());
            }
            let next = self.judge(&reply, frame.client, steer);
            let is_no = reply.answer().is_some_and(|answer| answer.status_byte() >= 16);
            steer.judges.heard(*call, steer.now_us, reply)?;
            if self.jobs[*job].flying != Some(correlation) {
                continue;
            }
            self.jobs[*job].flying = None;
            let delay_us = match next {
                Next::On => self.advance(*job, is_no),
                Next::Again(after_us) => self.again(*job, after_us),
                Next::Doubt => self.doubt(*job, steer),
            };
            on.extend(delay_us.map(|delay_us| (*job, delay_us)));
        }
        Ok(on)
    }

    fn judge(&mut self, reply: &Reply, client: usize, steer: &mut Steer<'_>) -> Next {
        let Some(answer) = reply.answer() else { return Next::On };
        let wait_us = |ms: u32| u64::from(ms.clamp(1, 2000)) * MS_US;
        match answer.status() {
            Some(Status::Busy | Status::Full) => Next::Again(wait_us(answer.retry_after_ms())),
            Some(Status::NotLeader) if answer.leader() != 0 && steer.nodes.contains(&answer.leader()) => {
                steer.coverage.hit(Path::HintFollowed);
                self.targets[client] = answer.leader();
                Next::Again(MS_US)
            }
            Some(Status::NotLeader) => {
                self.targets[client] = *self.random.pick(steer.nodes);
                Next::Again(self.random.spread(20, 400) * MS_US)
            }
            Some(Status::Unknown) => Next::Doubt,
            _ => Next::On,
        }
    }

    /// A client stops waiting for a frame. Its reply may still come.
    pub(crate) fn gave_up(&mut self, correlation: u64, steer: &mut Steer<'_>) -> Vec<(usize, u64)> {
        let Some(mut frame) = self.frames.remove(&correlation) else { return Vec::new() };
        if frame.is_given_up {
            return Vec::new();
        }
        frame.is_given_up = true;
        if self.random.chance(2, 3) {
            self.look_elsewhere(&frame, steer.nodes);
        }
        let on = self.doubt_all(&frame, correlation, steer);
        self.frames.insert(correlation, frame);
        on
    }

    fn look_elsewhere(&mut self, frame: &Frame, nodes: &[u64]) {
        if self.targets[frame.client] == frame.node {
            self.targets[frame.client] = *self.random.pick(nodes);
        }
    }

    fn doubt_all(&mut self, frame: &Frame, correlation: u64, steer: &mut Steer<'_>) -> Vec<(usize, u64)> {
        let mut on = Vec::new();
        for job in &frame.jobs {
            if self.jobs[*job].flying == Some(correlation) {
                self.jobs[*job].flying = None;
                on.extend(self.doubt(*job, steer).map(|delay_us| (*job, delay_us)));
            }
        }
        on
    }

    /// The stage is answered: on to the next.
    fn advance(&mut self, number: usize, is_no: bool) -> Option<u64> {
        let forgets = is_no && self.random.chance(9, 10);
        let job = &mut self.jobs[number];
        job.stages.pop_front();
        // Its id has been sent before.
        (job.attempt, job.tries) = (1, 0);
        if forgets {
            job.stages.clear();
        }
        job.stages.front().map(|stage| stage.after_us)
    }

    fn again(&mut self, number: usize, after_us: u64) -> Option<u64> {
        let backoff_us = self.random.spread(1, 4) * after_us;
        self.probes_again += usize::from(number >= self.probes_from);
        let job = &mut self.jobs[number];
        job.attempt = job.attempt.saturating_add(1);
        job.tries += 1;
        if job.tries > self.tries_max && !self.is_healed {
            return self.walk_away(number);
        }
        let slower_us = u64::from(job.tries.min(20)) * 10 * MS_US;
        Some(backoff_us + slower_us)
    }

    /// Nobody knows what became of the stage: again, as a retry; or the id is resolved; or the client walks away.
    fn doubt(&mut self, number: usize, steer: &mut Steer<'_>) -> Option<u64> {
        let wait_us = self.random.spread(1, 500) * MS_US;
        let drawn = self.random.below(10);
        let stage = self.jobs[number].stages.front().copied()?;
        if let Some(id) = stage.ask.id().filter(|_| stage.ask.verb().is_some()) {
            self.doubted.insert(id);
        }
        match drawn {
            _ if self.is_healed => self.again(number, wait_us),
            0 => self.walk_away(number),
            1..4 if matches!(stage.ask, Ask::Reserve(_) | Ask::Restock(_) | Ask::WriteOff(_)) => {
                if self.frames.values().any(|frame| frame.jobs.contains(&number)) {
                    steer.coverage.hit(Path::ResolvedInFlight);
                }
                let id = stage.ask.id().expect("these have one");
                let ask = Ask::Resolve(IdItem::new(ReservationId(id)));
                let job = &mut self.jobs[number];
                job.stages[0] = Stage { after_us: 0, ask };
                Some(wait_us)
            }
            _ => self.again(number, wait_us),
        }
    }

    fn walk_away(&mut self, number: usize) -> Option<u64> {
        self.jobs[number].is_unsure = true;
        None
    }

    /// One buyer for each of these units of a product, who has bought nothing yet and knows the leader.
    pub(crate) fn probe(&mut self, free: &[(u64, u32)], node: u64, random: &mut Random) -> Vec<usize> {
        let from = self.jobs.len();
        self.targets[0] = node;
        self.probes_from = from;
        for (product, units) in free {
            let id = ReservationId((u128::from(random.word()) << 64) | u128::from(random.word() | 1));
            let user = UserId(1 << 32 | product);
            let item = ReserveItem::new(id, ProductId(*product), user, *units);
            let stage = Stage { after_us: 0, ask: Ask::Reserve(item) };
            self.jobs.push(Job::new(0, 0, [stage].into()));
        }
        (from..self.jobs.len()).collect()
    }

    /// Every client walks away for good.
    pub(crate) fn abandon(&mut self) {
        for job in &mut self.jobs {
            job.stages.clear();
            job.is_unsure = false;
        }
        self.doubted.clear();
    }

    /// All faults are over: whoever walked away comes back, and every id that was ever in doubt is resolved.
    pub(crate) fn heal(&mut self) -> Vec<(usize, u64)> {
        self.is_healed = true;
        let mut on = Vec::new();
        for number in 0..self.jobs.len() {
            let wait_us = self.random.between(1, 2000) * MS_US;
            let job = &mut self.jobs[number];
            if !std::mem::take(&mut job.is_unsure) {
                continue;
            }
            if job.stages.front().is_some_and(|stage| stage.ask.id().is_some()) {
                job.stages.clear();
            }
            (job.attempt, job.tries) = (job.attempt.saturating_add(1), 0);
            on.push((number, wait_us));
        }
        for id in std::mem::take(&mut self.doubted) {
            let ask = Ask::Resolve(IdItem::new(ReservationId(id)));
            let client = self.random.below(self.targets.len() as u64) as usize;
            let job = Job::new(client, 0, [Stage { after_us: 0, ask }].into());
            on.push((self.jobs.len(), self.random.between(1, 4000) * MS_US));
            self.jobs.push(job);
        }
        on
    }
}
