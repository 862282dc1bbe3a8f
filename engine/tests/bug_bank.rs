//! later
#[test]
fn x() {}
