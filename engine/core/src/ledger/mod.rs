//! (being written)
pub mod command;
pub mod effect;
pub mod settings;
