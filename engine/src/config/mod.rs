//! What a node may be told, parsed into something that can only be valid.
//!
//! The way of a value: a flag wins over the file, the file over the default (`source`); its text becomes a typed
//! value within its range (`value`), as its one declaration says (`settings`); mistakes are collected, all of
//! them, each with its key, its value, what is allowed and where it came from (`error`). Only when there are none
//! is a [`Config`] built.
//!
//! What all nodes of a cluster must agree on ([`ClusterConfig`]) stands apart from what each may choose.
//! Deliberately not here: reading the configuration again while running; a node is restarted instead.

mod error;
mod settings;
mod source;
mod value;

use std::net::SocketAddr;

use sluice_core::ledger::settings::Settings as LedgerSettings;

pub use error::{ConfigErrors, Mistake, Origin, Problem};
pub use settings::{
    ClusterConfig, Config, LimitsConfig, LogConfig, NodeConfig, OpsConfig, PeersConfig, StreamConfig,
};
pub use source::ConfigArgs;
pub use value::Value;

use settings::{SETTINGS, Setting};

impl Config {
    /// Reads flags, file and defaults into a configuration.
    ///
    /// # Errors
    /// [`ConfigErrors`] lists every mistake at once.
    pub fn load(args: &ConfigArgs) -> Result<Self, ConfigErrors> {
        resolve(args).map(|resolved| resolved.config())
    }
}

impl ClusterConfig {
    /// The same, as the ledger keeps it.
    pub fn ledger_settings(&self) -> LedgerSettings {
        LedgerSettings {
            records_max: self.records_max,
            retention_ms: u64::try_from(self.outcome_retention.as_millis()).expect("at most thirty days"),
        }
    }
}

/// One setting as it is in effect.
#[derive(Clone, Debug)]
pub struct Effective {
    /// `section.name`.
    pub key: &'static str,
    /// Its value.
    pub value: Value,
    /// Who set it.
    pub origin: Origin,
}

/// All settings as they are in effect: valid, in the order of their declaration.
#[derive(Clone, Debug)]
pub struct Resolved {
    settings: Vec<Effective>,
}

impl Resolved {
    /// The settings, in the order of their declaration.
    pub fn settings(&self) -> &[Effective] {
        &self.settings
    }

    /// The configuration they make.
    pub fn config(&self) -> Config {
        Config::build(self)
    }

    fn find(&self, key: &str) -> Option<&Effective> {
        self.settings.iter().find(|setting| setting.key == key)
    }
}

/// Like [`Config::load`], with the origin of every value.
///
/// # Errors
/// [`ConfigErrors`] lists every mistake at once.
pub fn resolve(args: &ConfigArgs) -> Result<Resolved, ConfigErrors> {
    let (given, mut mistakes) = source::collect(args);
    let mut settings = Vec::with_capacity(SETTINGS.len());
    for setting in SETTINGS {
        let (text, origin) = match given.iter().find(|value| value.key == setting.key) {
            Some(value) => (value.text.as_str(), value.origin.clone()),
            None => (setting.default, Origin::Default),
        };
        match setting.kind.parse(text) {
            Ok(value) => settings.push(Effective { key: setting.key, value, origin }),
            Err(problem) => mistakes.push(Mistake::new(setting.key, text, origin, problem)),
        }
    }
    let resolved = Resolved { settings };
    mistakes.extend(plaintext_beyond_loopback(&resolved));
    mistakes.extend(budget_default_above_max(&resolved));
    mistakes.extend(ports_collide(&resolved));
    mistakes.extend(nobody_could_connect(&resolved));
    if mistakes.is_empty() { Ok(resolved) } else { Err(ConfigErrors::new(mistakes)) }
}

/// Nothing on the wire is encrypted or authenticated, so whoever can reach the port can buy, cancel and restock.
fn plaintext_beyond_loopback(resolved: &Resolved) -> Vec<Mistake> {
    let allowed = |setting: &Effective| matches!(setting.value, Value::Switch(true));
    if resolved.find("node.insecure_plaintext").is_some_and(allowed) {
        return Vec::new();
    }
    ["node.listen", "peers.listen", "ops.listen"]
        .into_iter()
        .filter_map(|key| resolved.find(key))
        .filter(|setting| address(setting).is_some_and(|address| !address.ip().is_loopback()))
        .map(|setting| mistake(setting, Problem::PlaintextBeyondLoopback))
        .collect()
}

fn budget_default_above_max(resolved: &Resolved) -> Option<Mistake> {
    let default = resolved.find("limits.request_budget_default")?;
    let max = resolved.find("limits.request_budget_max")?;
    let (Value::Span(default_span), Value::Span(max_span)) = (&default.value, &max.value) else {
        return None;
    };
    (default_span > max_span).then(|| {
        let why = format!("must not exceed limits.request_budget_max, which is {}", max.value);
        mistake(default, Problem::Conflict { why })
    })
}

fn ports_collide(resolved: &Resolved) -> Vec<Mistake> {
    let pairs =
        [("node.listen", "ops.listen"), ("node.listen", "peers.listen"), ("peers.listen", "ops.listen")];
    let collide = |(one, other): (&str, &str)| {
        let (one, other) = (resolved.find(one)?, resolved.find(other)?);
        // Port 0 asks the system for a free one: two of those never collide.
        let is_same = address(one) == address(other) && address(other)?.port() != 0;
        let why = format!("must differ from {}: two listeners cannot share a port", one.key);
        is_same.then(|| mistake(other, Problem::Conflict { why }))
    };
    pairs.into_iter().filter_map(collide).collect()
}

/// What is told to others must be an address that they can connect to.
fn nobody_could_connect(resolved: &Resolved) -> Vec<Mistake> {
    if resolved.find("peers.listen").and_then(address).is_none() {
        return Vec::new();
    }
    let told = |(listen, advertise): (&str, &'static str)| {
        let (listen, advertise) = (resolved.find(listen)?, resolved.find(advertise)?);
        let is_auto = advertise.value.to_string() == "auto";
        let why = format!("must be set, since {} names no address that others could connect to", listen.key);
        let is_any = address(listen)?.ip().is_unspecified();
        (is_auto && is_any).then(|| mistake(advertise, Problem::Conflict { why }))
    };
    [("node.listen", "node.advertise"), ("peers.listen", "peers.advertise")]
        .into_iter()
        .filter_map(told)
        .collect()
}

fn address(setting: &Effective) -> Option<SocketAddr> {
    match setting.value {
        Value::Address(address) => Some(address),
        _ => None,
    }
}

fn mistake(setting: &Effective, problem: Problem) -> Mistake {
    Mistake::new(setting.key, &setting.value.to_string(), setting.origin.clone(), problem)
}
