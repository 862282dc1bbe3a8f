//! Invariant 10: at one index all ledgers are the same, byte by byte; a snapshot and what follows it make the same as the
//! whole log; and both are what the model makes of it.

use std::collections::{BTreeMap, BTreeSet};

use sluice_core::ledger::Ledger;
use sluice_core::ledger::effect::Ignore;
use sluice_core::ledger::settings::Settings;
use sluice_core::replica::disk::{EntryKind, LogEntry};
use sluice_protocol::ProductId;

use super::Violation;
use super::setup::violation;
use crate::model::Timeline;

/// Entries that a node applied since its ledger was last looked at, and what they may have changed.
#[derive(Debug, Default)]
pub struct Span {
    /// Where the ledger was looked at last.
    pub since: u64,
    /// The last entry.
    pub last: u64,
    /// Products that may have changed.
    pub products: BTreeSet<u64>,
    /// Ids that may have changed.
    pub ids: BTreeSet<u128>,
    /// Whether consumer groups may have changed.
    pub consumes: bool,
}

/// See the module.
pub struct Replicas {
    /// Comparisons made.
    pub checks: u64,
    digest_every: u64,
    spans: BTreeMap<u64, Span>,
    /// The digest at an index, and the node that was there first.
    digests: BTreeMap<u64, (u64, u64)>,
    /// The log, applied to nothing but itself, and its entries that are not.
    replayed: Ledger,
    ahead: Vec<LogEntry>,
}

impl std::fmt::Debug for Replicas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replicas").field("checks", &self.checks).finish_non_exhaustive()
    }
}

impl Replicas {
    /// Replicas of an empty ledger. Digests are taken where `digest_every` divides the index, and in the end; never if it is 0.
    pub fn new(settings: Settings, digest_every: u64) -> Self {
        Self {
            checks: 0,
            digest_every,
            spans: BTreeMap::new(),
            digests: BTreeMap::new(),
            replayed: Ledger::new(settings, 1),
            ahead: Vec::new(),
        }
    }

    /// An entry is committed that nobody had applied yet.
    pub fn committed(&mut self, entry: &LogEntry) {
        self.ahead.push(entry.clone());
    }

    /// A node's process began again: what its ledger is will be told.
    pub fn restart(&mut self, node: u64) {
        self.spans.remove(&node);
    }

    /// A node applied an entry. If its ledger has no more entries behind it, all that changed since it was looked at last.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn applied(
        &mut self,
        node: u64,
        index: u64,
        timeline: &Timeline,
        ledger: &Ledger,
    ) -> Result<Option<Span>, Violation> {
        let span = self.spans.entry(node).or_insert_with(|| Span {
            since: index - 1,
            last: index - 1,
            ..Span::default()
        });
        if index != span.last + 1 {
            return violation!("replicas", "node {node} applies entry {index} after entry {}", span.last);
        }
        span.last = index;
        if let Some(step) = timeline.step(index) {
            span.products.extend(&step.products);
            span.ids.extend(&step.ids);
            span.consumes |= step.consumes;
        }
        if ledger.index() < index {
            return violation!(
                "replicas",
                "node {node} applied entry {index}; its ledger is at {}",
                ledger.index()
            );
        }
        if ledger.index() > index {
            return Ok(None);
        }
        let span = std::mem::take(span);
        self.spans.insert(node, Span { since: index, last: index, ..Span::default() });
        self.compare(node, &span, timeline, ledger)?;
        Ok(Some(span))
    }

    fn compare(
        &mut self,
        node: u64,
        span: &Span,
        timeline: &Timeline,
        ledger: &Ledger,
    ) -> Result<(), Violation> {
        self.checks += 1;
        let index = span.last;
        let sequence = timeline.step(index).map_or(0, |step| step.sequence);
        if ledger.at() != timeline.at(index) || ledger.sequence() != sequence {
            return violation!(
                "replicas",
                "node {node} is at {:?} with event {}, the log at {:?} with event {sequence}",
                ledger.at(),
                ledger.sequence(),
                timeline.at(index)
            );
        }
        for product in &span.products {
            let (theirs, ours) = (ledger.product(ProductId(*product)), timeline.product(*product, index));
            if theirs.as_ref() != ours {
                return violation!(
                    "replicas",
                    "node {node}, index {index}: {theirs:?}, and should be {ours:?}"
                );
            }
        }
        for id in &span.ids {
            if let Err(what) = timeline.id_agrees(*id, ledger) {
                return violation!("replicas", "node {node}: {what}");
            }
        }
        // The other nodes' groups are held against the first's by digests.
        if span.consumes
            && index == timeline.top()
            && let Err(what) = timeline.groups_agree(ledger)
        {
            return violation!("groups", "node {node}: {what}");
        }
        if self.digest_every != 0 && index.is_multiple_of(self.digest_every) {
            self.digest(node, ledger)
        } else {
            Ok(())
        }
    }

    /// A ledger is the same, byte by byte, as any that was shown here at its index.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn digest(&mut self, node: u64, ledger: &Ledger) -> Result<(), Violation> {
        self.checks += 1;
        let digest = ledger.digest();
        let (first, known) = *self.digests.entry(ledger.index()).or_insert((node, digest));
        if known == digest {
            return Ok(());
        }
        violation!("replicas", "nodes {first} and {node} differ at index {}", ledger.index())
    }

    /// A node's ledger was loaded from a snapshot.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn installed(
        &mut self,
        node: u64,
        index: u64,
        timeline: &Timeline,
        ledger: &Ledger,
    ) -> Result<(), Violation> {
        self.checks += 1;
        if index > timeline.top() {
            return violation!(
                "replicas",
                "node {node} has a snapshot of index {index}, which nobody has applied"
            );
        }
        // Entries behind the snapshot may have been applied by now.
        self.spans.insert(node, Span { since: index, last: index, ..Span::default() });
        if ledger.index() != index {
            return Ok(());
        }
        match timeline.agrees(ledger) {
            Ok(()) => Ok(()),
            Err(what) => violation!(
                "replicas",
                "the snapshot that node {node} loaded is not what the log makes: {what}"
            ),
        }
    }

    /// Nothing is in flight: all ledgers are at the same index, and what the whole log makes.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn quiet(&mut self, nodes: &[(u64, &Ledger)], timeline: &Timeline) -> Result<(), Violation> {
        for entry in self.ahead.drain(..) {
            let data: &[u8] = if entry.kind == EntryKind::Membership { &[] } else { &entry.data };
            self.replayed
                .apply(entry.index, entry.term, data, &mut Ignore)
                .expect("the model has read it before");
        }
        for (node, ledger) in nodes {
            self.checks += 1;
            if ledger.index() != timeline.top() {
                return violation!(
                    "replicas",
                    "nothing is in flight; node {node} is at index {}, the log at {}",
                    ledger.index(),
                    timeline.top()
                );
            }
            if self.digest_every != 0 && ledger.digest() != self.replayed.digest() {
                let what = timeline.agrees(ledger).err().unwrap_or_default();
                return violation!("replicas", "node {node} is not what the whole log makes: {what}");
            }
        }
        if let Some((node, ledger)) = nodes.first()
            && let Err(what) = timeline.agrees(ledger)
        {
            return violation!("replicas", "node {node}: {what}");
        }
        Ok(())
    }
}
