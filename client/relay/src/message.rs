//! What a destination gets: an event, or word of events that there will never be.
//!
//! Deliberately not here: names, headers and places, which are each broker's own.

use bytes::Bytes;
use serde_json::json;
use sluice_client::EventView;
use sluice_protocol::event::EventRecord;
use zerocopy::IntoBytes;

use crate::json::event_json;

/// A message to be stored behind the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// An event.
    Event(EventView),
    /// The servers keep these events no more, and the destination never had them.
    Gap {
        /// The first sequence that is missing.
        from: u64,
        /// The last.
        to: u64,
    },
}

impl Message {
    /// The sequence up to which everything is stored, once this is.
    pub fn sequence(&self) -> u64 {
        match self {
            Self::Event(event) => event.sequence,
            Self::Gap { to, .. } => *to,
        }
    }
}

/// How a message's content is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Payload {
    /// One JSON object, as `sluice tail --json` prints it.
    #[default]
    Json,
    /// The 80 bytes of the event, as on the wire; of a gap its two sequences, 8 bytes each, little-endian.
    Binary,
}

impl Payload {
    /// The content.
    pub fn write(self, message: &Message) -> Bytes {
        match (self, message) {
            (Self::Json, Message::Event(event)) => event_json(event).to_string().into(),
            (Self::Json, Message::Gap { from, to }) => {
                json!({ "gap": { "from": from, "to": to } }).to_string().into()
            }
            (Self::Binary, Message::Event(event)) => {
                Bytes::copy_from_slice(EventRecord::from(*event).as_bytes())
            }
            (Self::Binary, Message::Gap { from, to }) => {
                Bytes::from_owner([from.to_le_bytes(), to.to_le_bytes()].concat())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sluice_client::{EventKind, ProductId, ReservationId, UserId};

    use super::*;

    const EVENT: EventView = EventView {
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

    #[test]
    fn an_event_is_read_back_from_its_bytes() {
        let bytes = Payload::Binary.write(&Message::Event(EVENT));
        let record: &EventRecord = zerocopy::FromBytes::ref_from_bytes(&bytes).unwrap();
        assert_eq!((bytes.len(), record.view()), (80, Some(EVENT)));
    }

    #[test]
    fn a_gap_has_two_sequences_in_either_form() {
        let gap = Message::Gap { from: 3, to: 258 };
        assert_eq!(Payload::Json.write(&gap), r#"{"gap":{"from":3,"to":258}}"#);
        assert_eq!(&Payload::Binary.write(&gap)[..], [3, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(gap.sequence(), 258);
    }
}
