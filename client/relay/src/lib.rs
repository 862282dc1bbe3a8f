//! Relays the stream of events to message brokers, in order, each event under its sequence.
