//! What consumers ask, on its way to a process and back, and what the end of a run owes them.
//!
//! Deliberately not here: what they want (`workload`), and what must hold (the judges).

use sluice_core::desk::{Caller, Desk};
use sluice_core::session;
use sluice_core::time::Moment;
use sluice_protocol::Status;
use sluice_protocol::group::{GroupItem, JoinItem, PutGroupItem};
use sluice_protocol::seat::{LetterItem, SeatItem};

use super::World;
use super::event::{Event, Request};
use crate::coverage::Path;
use crate::net::End;
use crate::workload::Turn;
use sluice_judges::consume::Consume;
use sluice_judges::history::{Ask, Call, Reply};

/// Takes what is asked of groups to a desk. A frame is of one kind.
pub(super) fn submit(desk: &mut Desk, caller: Caller, asks: &[Ask], budget_ms: u32, now: Moment) {
    let asked = asks.iter().filter_map(|ask| match ask {
        Ask::Consume(asked) => Some(asked),
        _ => None,
    });
    let letters = || -> Vec<LetterItem> {
        let letter = |asked: &Consume| match asked {
            Consume::Redrive(group, sequence) | Consume::Drop(group, sequence) => {
                Some(LetterItem::new(*group, *sequence))
            }
            _ => None,
        };
        asked.clone().filter_map(letter).collect()
    };
    let Some(first) = asked.clone().next() else { return };
    let mut ask = |ask: session::Ask<'_>| desk.submit(caller, ask, budget_ms, now);
    match first {
        Consume::Put(name, after, terms) => {
            ask(session::Ask::PutGroup(&PutGroupItem::new(*name, *after, terms)));
        }
        Consume::Remove(name) => ask(session::Ask::RemoveGroup(&GroupItem::new(*name))),
        Consume::Seek(name, after) => ask(session::Ask::SeekGroup(&JoinItem::new(*name, *after))),
        Consume::Join(name, member) => ask(session::Ask::Join(&JoinItem::new(*name, *member))),
        Consume::Leave(group, member) => ask(session::Ask::Leave(&SeatItem::new(*group, *member))),
        Consume::Redrive(..) => ask(session::Ask::Redrive(&letters())),
        Consume::Drop(..) => ask(session::Ask::DropDead(&letters())),
        Consume::Ack(_) => {
            let items =
                asked.filter_map(|asked| if let Consume::Ack(item) = asked { Some(*item) } else { None });
            ask(session::Ask::Ack(&items.collect::<Vec<_>>()));
        }
        Consume::Nak(_) => {
            let items =
                asked.filter_map(|asked| if let Consume::Nak(item) = asked { Some(*item) } else { None });
            ask(session::Ask::Nak(&items.collect::<Vec<_>>()));
        }
    }
}

impl World {
    /// A consumer's time has come.
    pub(super) fn consumer(&mut self, actor: usize) {
        let now_us = self.now_us();
        let running = self.running();
        let sending = match self.workload.consumers.due(actor, &self.directory, &running, &mut self.coverage)
        {
            Turn::Sleep(delay_us) => return self.schedule.after(delay_us, Event::Consumer(actor)),
            Turn::Waits => return,
            Turn::Send(sending) => sending,
        };
        let Request { client, correlation, ref asks, ref fetch, .. } = sending.request;
        let node = sending.node;
        let sent = |ask: &Ask| Call { client: client as u32, node, ask: *ask, sent_us: now_us, heard: None };
        let calls = asks.iter().map(|ask| self.judges.sent(sent(ask))).collect();
        self.workload.consumers.sent(correlation, calls);
        self.trace.event(now_us, 8, correlation);
        self.trace
            .say(now_us, || format!("consumer {actor} asks node {node} #{correlation}: {asks:?} {fetch:?}"));
        self.schedule.after(sending.patience_us, Event::GiveUp { correlation });
        let at = (0..self.hosts.len()).find(|host| {
            let host = &self.hosts[*host];
            host.node == node && host.process.is_some()
        });
        let Some(host) = at else { return };
        let carried = self.net.send(End::Client(client), End::Host(host), 64 + 80 * asks.len(), now_us);
        if let Some(at_us) = carried.at_us {
            self.schedule.at(at_us, Event::Request { host, request: Box::new(sending.request) });
        }
    }

    /// A consumer hears. What it does next, it does after a while.
    pub(super) fn consumer_hears(&mut self, correlation: u64, replies: &[Reply]) {
        let now_us = self.now_us();
        for answer in replies.iter().flat_map(Reply::answers) {
            self.coverage.heard(answer.status_byte());
        }
        for (call, reply) in self.workload.consumers.calls(correlation).into_iter().zip(replies) {
            if let Err(violation) = self.judges.heard(call, now_us, reply.clone()) {
                return self.fail(violation.checker, violation.what);
            }
        }
        let on = self.workload.consumers.heard(correlation, replies, &self.directory, &mut self.coverage);
        if let Some((actor, delay_us)) = on {
            self.schedule.after(delay_us, Event::Consumer(actor));
        }
    }

    /// A node answers fetches: what it delivers is judged as it leaves.
    pub(super) fn judge_deliveries(&mut self, host: usize, replies: &[Reply]) {
        for reply in replies {
            let Reply::Delivery(delivery) = reply else { continue };
            if delivery.events.iter().any(|event| event.is_redriven()) {
                self.coverage.hit(Path::Redelivered);
            }
            if delivery.events.iter().any(|event| event.attempts() > 0) {
                self.coverage.hit(Path::Retried);
            }
            if delivery.head.answer.status() == Some(Status::Done) && !delivery.events.is_empty() {
                self.coverage.hit(Path::Delivered);
            }
            let judged = self.judges.delivered(self.hosts[host].alias, delivery);
            self.heed(judged);
        }
    }

    /// Once all faults are over somebody copies to a node the events that it misses and others keep. What nobody keeps
    /// counts as dropped.
    pub(super) fn repair_events(&mut self, number: usize, from: u64) {
        if !self.is_healed {
            return;
        }
        for other in 0..self.hosts.len() {
            if other != number {
                let theirs = self.hosts[other].disk.events.clone();
                self.hosts[number].disk.events.fill_from(&theirs);
            }
        }
        let files = &mut self.hosts[number].disk.events;
        if files.read(from).is_none() {
            files.drop_upto(from);
            self.judges.events_gone(self.hosts[number].alias, from);
        }
    }

    /// Why some group is not at the end; `None`: all are.
    pub(super) fn why_behind(&self, host: usize) -> Option<String> {
        if self.plan.mode == crate::plan::Mode::Small || self.plan.fills_up {
            return None;
        }
        let ledger = self.hosts[host].process.as_ref()?.replica.ledger();
        if self.workload.consumers.is_busy() {
            return Some("consumers wait for answers".to_owned());
        }
        for group in ledger.groups().iter() {
            let numbers: Vec<u64> = group.members().map(|seat| seat.member).collect();
            if let Some(ghost) = numbers.iter().find(|number| !self.workload.consumers.is_member(**number)) {
                return Some(format!("member {ghost} of group {} is gone and has a seat", group.id()));
            }
            if group.min_cursor() < ledger.sequence() {
                return Some(format!(
                    "group {} is at event {} of {}, with {} members",
                    group.id(),
                    group.min_cursor(),
                    ledger.sequence(),
                    numbers.len()
                ));
            }
        }
        None
    }
}
