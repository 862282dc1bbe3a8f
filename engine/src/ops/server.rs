//! The HTTP port: `/healthz`, `/readyz`, `/metrics`, `/stats`, and for auditors `/digest` and `/books`, on a thread and a
//! runtime of its own, so that neither a scrape nor a flood of them takes time from sales.
//!
//! It only reads. Deliberately not here: anything that changes the node; whoever can reach this port must not be
//! able to do more than look.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use serde_json::json;
use thiserror::Error;
use tokio::sync::oneshot;

use super::books;
use super::bounded::{BoundedListener, Leave};
use super::health::{Condition, Health};
use super::metrics::Metrics;
use super::stats::Stats;
use crate::books::Teller;
use crate::config::OpsConfig;

const PATHS: [&str; 6] = ["/healthz", "/readyz", "/metrics", "/stats", "/digest", "/books"];
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why the ops port could not be opened.
#[derive(Debug, Error)]
pub enum OpsError {
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {address} for the ops port: {source}; choose another with --ops")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        source: io::Error,
    },
    /// The thread or its runtime could not be started.
    #[error("cannot start the ops thread: {0}")]
    Start(#[source] io::Error),
}

/// The running port. Dropping it closes the port.
#[derive(Debug)]
pub struct OpsServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    books: BooksSlot,
}

/// Who tells the books, once the node has any.
type BooksSlot = Arc<OnceLock<Arc<Teller>>>;

#[derive(Clone, Debug)]
pub(super) struct Shown {
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    pub(super) books: BooksSlot,
}

impl OpsServer {
    /// Opens the port and serves it from a thread of its own.
    ///
    /// # Errors
    /// [`OpsError`] if the address cannot be listened on or the thread cannot be started.
    pub fn start(config: &OpsConfig, metrics: Arc<Metrics>, health: Arc<Health>) -> Result<Self, OpsError> {
        let listening = |source| OpsError::Listen { address: config.listen, source };
        let listener = std::net::TcpListener::bind(config.listen).map_err(listening)?;
        listener.set_nonblocking(true).map_err(listening)?;
        let address = listener.local_addr().map_err(listening)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(OpsError::Start)?;
        let books = BooksSlot::default();
        let router = router(metrics, health, Arc::clone(&books));
        let (stop, stopped) = oneshot::channel::<()>();
        let bounds = (config.connections_max, config.request_timeout);
        let serve = async move {
            let listener =
                tokio::net::TcpListener::from_std(listener).expect("it listens and does not block");
            let listener = BoundedListener::new(listener, bounds.0, bounds.1);
            let service = router.into_make_service_with_connect_info::<Leave>();
            tokio::select! {
                served = axum::serve(listener, service).into_future() => served.expect("serving never ends by itself"),
                _ = stopped => {}
            }
        };
        let thread = std::thread::Builder::new()
            .name("sluice-ops".to_owned())
            .spawn(move || runtime.block_on(serve))
            .map_err(OpsError::Start)?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread), books })
    }

    /// From now on there are books to be told.
    pub(crate) fn tells_books(&self, teller: Teller) {
        self.books.set(Arc::new(teller)).expect("a node loads its state once");
    }

    /// Where it listens; the port is the one it was given if it asked for any.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for OpsServer {
    fn drop(&mut self) {
        // Dropping the sender is the signal to stop.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in the ops thread has already been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

fn router(metrics: Arc<Metrics>, health: Arc<Health>, books: BooksSlot) -> Router {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Arc::clone(&metrics)));
    let shown = Shown { registry: Arc::new(registry), metrics, health, books };
    Router::new()
        .route(PATHS[0], get(healthz))
        .route(PATHS[1], get(readyz))
        .route(PATHS[2], get(metrics_text))
        .route(PATHS[3], get(stats))
        .route(PATHS[4], get(books::digest))
        .route(PATHS[5], get(books::books))
        .fallback(unknown_path)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(axum::middleware::map_response(close_after))
        .with_state(shown)
}

/// Alive, unless poisoned: then the node wants to be stopped.
async fn healthz(State(shown): State<Shown>) -> Response {
    condition(&shown.health, |condition| condition != Condition::Poisoned)
}

/// Ready if it can take orders here and now.
async fn readyz(State(shown): State<Shown>) -> Response {
    condition(&shown.health, |condition| condition == Condition::Ready)
}

fn condition(health: &Health, is_good: impl Fn(Condition) -> bool) -> Response {
    let (condition, reason) = health.read();
    let status = if is_good(condition) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({ "ok": status == StatusCode::OK, "condition": condition.name(), "reason": reason });
    (status, Json(body)).into_response()
}

async fn metrics_text(State(shown): State<Shown>) -> Response {
    let mut text = String::with_capacity(64 * 1024);
    match prometheus_client::encoding::text::encode(&mut text, &shown.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

async fn stats(State(shown): State<Shown>) -> Json<Stats> {
    Json(Stats::read(&shown.metrics, &shown.health))
}

async fn unknown_path(uri: Uri) -> Response {
    refuse(StatusCode::NOT_FOUND, &format!("there is nothing at {}", uri.path()))
}

async fn method_not_allowed() -> Response {
    refuse(StatusCode::METHOD_NOT_ALLOWED, "this port only answers GET")
}

pub(super) fn refuse(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error, "paths": PATHS }))).into_response()
}

/// One request a connection: the connection's bounds are then the request's.
async fn close_after(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
