//! `/digest` and `/books`: a node's state as of one sequence, for auditors.
//!
//! The work is done on a thread beside the port's own, one at a time, and ends when the asker goes away or stops reading.
//! So health checks and scrapes are answered meanwhile. Deliberately not here: what books are ([`crate::books`]).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Json, Response};
use bytes::Bytes;
use futures_core::Stream;
use serde_json::json;
use sluice_client::books::bytes::Writer;
use sluice_protocol::ProductId;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::bounded::Leave;
use super::server::{Shown, refuse};
use crate::books::digest::Digest;
use crate::books::{Asked, Begun, Gone, NoBooks, Teller, Walked};

/// How long it may be waited for a sequence that has not come.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// How long the whole may take beyond that, however much it is.
const TAKES_MAX: Duration = Duration::from_secs(600);

/// How long an asker may leave what is ready unread.
const UNREAD_MAX: Duration = Duration::from_secs(30);

/// How often it is looked whether it is read.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Bytes that are handed over at a time, and how many such pieces may wait.
const PIECE_LEN: usize = 64 * 1024;
const PIECES_MAX: usize = 8;

/// Seconds after which somebody may ask who has found the place taken.
const RETRY_SECONDS: u32 = 1;

/// What is to be told of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Books,
    Digest(Option<ProductId>),
}

pub(super) async fn digest(
    State(shown): State<Shown>,
    ConnectInfo(leave): ConnectInfo<Leave>,
    uri: Uri,
) -> Response {
    match parse(uri.query().unwrap_or(""), true) {
        Ok((asked, product)) => tell(&shown, &leave, asked, Form::Digest(product)).await,
        Err(wrong) => refuse(StatusCode::BAD_REQUEST, &wrong),
    }
}

pub(super) async fn books(
    State(shown): State<Shown>,
    ConnectInfo(leave): ConnectInfo<Leave>,
    uri: Uri,
) -> Response {
    match parse(uri.query().unwrap_or(""), false) {
        Ok((asked, _)) => tell(&shown, &leave, asked, Form::Books).await,
        Err(wrong) => refuse(StatusCode::BAD_REQUEST, &wrong),
    }
}

/// Reads `at=…&wait_ms=…&product=…`.
fn parse(query: &str, is_digest: bool) -> Result<(Asked, Option<ProductId>), String> {
    let (mut asked, mut product) = (Asked::default(), None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let number = value.parse::<u64>().map_err(|_| format!("{name} is to be a number, not {value:?}"))?;
        match name {
            "at" => asked.at = Some(number),
            "wait_ms" => asked.wait = Duration::from_millis(number).min(WAIT_MAX),
            "product" if is_digest => product = Some(ProductId(number)),
            _ => {
                return Err(format!(
                    "there is no {name:?} to be asked for: at, wait_ms, and product of a digest"
                ));
            }
        }
    }
    Ok((asked, product))
}

async fn tell(shown: &Shown, leave: &Leave, asked: Asked, form: Form) -> Response {
    let Some(teller) = shown.books.get().map(Arc::clone) else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "this node has not loaded its state yet");
    };
    let Some(place) = teller.place() else {
        let busy = refuse(StatusCode::SERVICE_UNAVAILABLE, "somebody else is being told these books");
        return ([(header::RETRY_AFTER, RETRY_SECONDS)], busy).into_response();
    };
    leave.grant(asked.wait + TAKES_MAX);
    let (pieces, body) = mpsc::channel(PIECES_MAX);
    let (answer, answered) = oneshot::channel();
    tokio::task::spawn_blocking(move || match form {
        Form::Books => tell_books(&teller, asked, place, answer, &pieces),
        Form::Digest(product) => {
            let digest = make_digest(&teller, asked, product, &pieces);
            // Before the answer, so that whoever has heard it finds the place free.
            drop(place);
            // Nobody waits for it who has gone away.
            let _ = answer.send(digest);
        }
    });
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    match answered.await {
        Ok(Ok(None)) => (kind, Body::from_stream(Pieces(body))).into_response(),
        Ok(Ok(Some(digest))) => Json(digest).into_response(),
        Ok(Err(error)) => refused(&error),
        Err(_) => refused(&NoBooks::Stopping),
    }
}

/// A digest, if there are no pieces.
type Answered = Result<Option<Box<Digest>>, NoBooks>;

fn make_digest(teller: &Teller, asked: Asked, product: Option<ProductId>, heard: &Heard) -> Answered {
    let begun = teller.begin(asked, &|| heard.is_closed())?;
    let heading = begun.heading;
    let listens = |_: &_| if heard.is_closed() { Err(Gone) } else { Ok(()) };
    match begun.walk(listens)? {
        Walked::Told(sums) => Ok(Some(Box::new(Digest::new(&heading, &sums, product)))),
        Walked::Gone => Err(NoBooks::Stopping),
    }
}

type Heard = mpsc::Sender<io::Result<Bytes>>;

fn tell_books(
    teller: &Teller,
    asked: Asked,
    place: OwnedSemaphorePermit,
    answer: oneshot::Sender<Answered>,
    heard: &Heard,
) {
    let begun = match teller.begin(asked, &|| heard.is_closed()) {
        Ok(begun) => begun,
        Err(error) => {
            drop(place);
            let _ = answer.send(Err(error));
            return;
        }
    };
    if answer.send(Ok(None)).is_ok()
        && let Err(error) = write_books(begun, place, heard)
    {
        tracing::error!(%error, "books could not be told to their end");
        // Cuts the answer off, so that nobody takes it for whole.
        let _ = send(heard, Err(io::Error::other(error)));
    }
}

fn write_books(begun: Begun, place: OwnedSemaphorePermit, heard: &Heard) -> Result<(), NoBooks> {
    let mut writer = Writer::new(&begun.heading);
    let walked = begun.walk(|entry| {
        writer.entry(entry);
        if writer.len() < PIECE_LEN { Ok(()) } else { send(heard, Ok(writer.take().into())) }
    })?;
    drop(place);
    if let Walked::Told(sums) = walked {
        // Whoever went away before the end does not miss it.
        let _ = send(heard, Ok(writer.finish(&sums).into()));
    }
    Ok(())
}

/// Hands a piece over, unless nobody reads.
fn send(heard: &Heard, mut piece: io::Result<Bytes>) -> Result<(), Gone> {
    let began = Instant::now();
    loop {
        piece = match heard.try_send(piece) {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Full(piece)) if began.elapsed() < UNREAD_MAX => piece,
            Err(_) => return Err(Gone),
        };
        std::thread::sleep(LOOK_EVERY);
    }
}

fn refused(error: &NoBooks) -> Response {
    let status = match error {
        NoBooks::Forgotten { .. } => StatusCode::GONE,
        NoBooks::TooFar { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        NoBooks::Behind { .. } | NoBooks::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut body = json!({ "error": error.to_string(), "code": error.code() });
    match error {
        NoBooks::Behind { here, .. } => body["here"] = json!(here),
        NoBooks::Forgotten { lowest, .. } => body["lowest"] = json!(lowest),
        _ => {}
    }
    (status, Json(body)).into_response()
}

/// The pieces of an answer.
struct Pieces(mpsc::Receiver<io::Result<Bytes>>);

impl Stream for Pieces {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read_and_what_makes_no_sense_is_refused() {
        let (asked, product) = parse("at=7&wait_ms=250&product=3", true).unwrap();
        assert_eq!(
            (asked, product),
            (Asked { at: Some(7), wait: Duration::from_millis(250) }, Some(ProductId(3)))
        );
        assert_eq!(parse("", false).unwrap(), (Asked::default(), None));
        assert_eq!(parse("wait_ms=99999999999", false).unwrap().0.wait, WAIT_MAX);
        for wrong in ["at=", "at", "at=-1", "at=1&to=2", "at=18446744073709551616"] {
            assert!(parse(wrong, true).is_err(), "{wrong}");
        }
        assert!(parse("product=3", false).is_err(), "books are always whole");
    }
}
