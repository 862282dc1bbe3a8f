//! An event as one JSON object: the shape that the command line prints and that destinations keep.
//!
//! | field | | of which events |
//! |---|---|---|
//! | `sequence`, `index` | numbers | all |
//! | `time`, `time_ms` | ledger time: UTC text, and milliseconds since 1970 | all |
//! | `kind` | [`kind_name`] | all |
//! | `product` | a number | all |
//! | `user` | a number | where one is involved |
//! | `id` | 32 hexadecimal digits | of a reservation, a restock or a write-off |
//! | `quantity` | units | all but changes of terms |
//! | `deadline_ms` | when the hold ends | reserved |
//! | `reason` | a number | cancelled |
//!
//! Deliberately not here: the form for people, and the bytes ([`crate::Payload::Binary`]).

use serde_json::{Value as Json, json};
use sluice_client::{EventKind, EventView, Utc};

/// The name of a kind, as programs and subjects have it.
pub fn kind_name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Reserved => "reserved",
        EventKind::Confirmed => "confirmed",
        EventKind::Cancelled => "cancelled",
        EventKind::Expired => "expired",
        EventKind::Restocked => "restocked",
        EventKind::WrittenOff => "written_off",
        EventKind::TermsChanged => "terms_changed",
        EventKind::Sealed => "sealed",
    }
}

/// An event as one object; the table is in this module's text. What does not apply to its kind is left out.
pub fn event_json(event: &EventView) -> Json {
    let mut object = json!({
        "sequence": event.sequence,
        "index": event.index,
        "time": Utc(event.time_ms).to_string(),
        "time_ms": event.time_ms,
        "kind": kind_name(event.kind),
        "product": event.product.0,
    });
    if event.user.0 != 0 {
        object["user"] = json!(event.user.0);
    }
    if event.id.0 != 0 {
        object["id"] = json!(event.id.to_string());
    }
    if event.quantity != 0 {
        object["quantity"] = json!(event.quantity);
    }
    match event.kind {
        EventKind::Reserved => object["deadline_ms"] = json!(event.detail),
        EventKind::Cancelled => object["reason"] = json!(event.detail),
        _ => {}
    }
    object
}

#[cfg(test)]
mod tests {
    use sluice_client::{ProductId, ReservationId, UserId};

    use super::*;

    #[test]
    fn programs_read_what_applies() {
        let reserved = EventView {
            sequence: 17,
            index: 9,
            time_ms: 1_000_000_000,
            kind: EventKind::Reserved,
            product: ProductId(7),
            user: UserId(42),
            quantity: 2,
            id: ReservationId(0xab),
            detail: 3,
        };
        let object = event_json(&reserved);
        assert_eq!((&object["deadline_ms"], object.get("reason")), (&json!(3), None));
        assert_eq!(object["id"], format!("{:032x}", 0xab));
        let sealed = EventView {
            kind: EventKind::Sealed,
            user: UserId(0),
            quantity: 0,
            id: ReservationId(0),
            detail: 0,
            ..reserved
        };
        let keys: Vec<String> = event_json(&sealed).as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["index", "kind", "product", "sequence", "time", "time_ms"]);
    }
}
