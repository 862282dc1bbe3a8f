//! What can be seen of a server from outside: its ops port, its memory, its descriptors, its books.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sluice_engine::ops::fetch;
use sluice_protocol::request::ProductItem;
use sluice_protocol::response::{ProductReply, ProductView, items};
use sluice_protocol::{FaultCode, Kind, ProductId};
use zerocopy::IntoBytes;

use super::PRODUCT;
use super::good::Bought;
use crate::process::Served;
use crate::raw::{PATIENCE, Raw, frame};

/// See the module.
pub(crate) struct Look {
    pub address: SocketAddr,
    ops: String,
    pid: u32,
}

/// All metrics at one moment.
#[derive(Debug)]
pub(crate) struct Seen(HashMap<String, f64>);

impl Seen {
    pub(crate) fn get(&self, name: &str) -> u64 {
        *self.0.get(name).unwrap_or_else(|| panic!("there is no {name}")) as u64
    }

    pub(crate) fn faults(&self, code: FaultCode) -> u64 {
        let snake: String = format!("{code:?}")
            .chars()
            .flat_map(|letter| {
                letter.is_ascii_uppercase().then_some('_').into_iter().chain([letter.to_ascii_lowercase()])
            })
            .collect();
        self.get(&format!("sluice_faults_total{{code=\"{}\"}}", &snake[1..]))
    }
}

impl Look {
    pub(crate) fn at(server: &Served) -> Self {
        let address = server.url.strip_prefix("sluice://").unwrap().parse().unwrap();
        let ops = server.ops.strip_prefix("http://").unwrap().to_owned();
        Self { address, ops, pid: server.child.id() }
    }

    pub(crate) fn metrics(&self) -> Seen {
        let (status, text) = fetch::get(&self.ops, "/metrics", PATIENCE).unwrap();
        assert_eq!(status, 200);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Seen(
            lines
                .filter_map(|line| line.rsplit_once(' '))
                .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
                .collect(),
        )
    }

    pub(crate) fn faults(&self, code: FaultCode) -> u64 {
        self.metrics().faults(code)
    }

    /// Looks until it is so.
    pub(crate) fn until(&self, what: &str, is_so: impl Fn(&Seen) -> bool) {
        let since = Instant::now();
        loop {
            let seen = self.metrics();
            if is_so(&seen) {
                return;
            }
            assert!(since.elapsed() < PATIENCE, "{what}: not so; {seen:?}");
        }
    }

    /// Looks until as many files are open as at the start.
    pub(crate) fn until_files(&self, files: usize) {
        // The port's own connection may be open at either time.
        self.until("descriptors are given back", |_| self.files() <= files + 1);
    }

    pub(crate) fn files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid)).unwrap().count()
    }

    pub(crate) fn memory_kib(&self, what: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find(|line| line.starts_with(what)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The books say what the good clients were told, and nothing else was taken.
    pub(crate) fn audit(&self, bought: Bought) {
        let mut raw = Raw::greeted(self.address);
        raw.send(&frame(Kind::QueryProduct, 1, 5, ProductItem::new(ProductId(PRODUCT)).as_bytes()));
        let (_, body) = raw.receive();
        let view = ProductView::from(items::<ProductReply>(&body).unwrap()[0].record);
        assert_eq!(Bought { held: view.held, sold: view.sold }, bought);
        assert_eq!(view.stock, view.free + view.held + view.sold);
        assert_eq!(self.metrics().get("sluice_conservation_error"), 0);
    }
}

/// Sees to it that this test may open so many descriptors.
pub(crate) fn need_descriptors(count: usize) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|soft| soft < count as u64) {
        let raised = Rlimit { current: Some(count as u64), maximum };
        setrlimit(Resource::Nofile, raised).unwrap_or_else(|error| {
            panic!("this test opens {count} sockets, and may not ({error}): run it with `ulimit -n {count}` or more")
        });
    }
}
