//! Reads `docs/PROTOCOL.md`: its hexadecimal blocks and its tables. Shared by the tests that hold the page
//! to the code.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/PROTOCOL.md");

/// The page's text.
pub(crate) fn text() -> String {
    std::fs::read_to_string(PAGE).unwrap_or_else(|error| panic!("{PAGE}: {error}"))
}

/// Every block whose fence says `hex` and a name. In a block, `#` begins a remark that ends with its line.
pub(crate) fn frames() -> BTreeMap<String, Vec<u8>> {
    let text = text();
    let mut frames = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(name) = line.strip_prefix("```hex ") else { continue };
        let digits: String = lines
            .by_ref()
            .take_while(|line| !line.starts_with("```"))
            .map(|line| line.split('#').next().unwrap_or_default())
            .collect();
        let earlier = frames.insert(name.trim().to_owned(), bytes_of(&digits));
        assert!(earlier.is_none(), "two blocks `hex {name}`");
    }
    frames
}

/// The rows of the table whose header's first cell is `title`, each as its trimmed cells without back-quotes.
pub(crate) fn table(title: &str) -> Vec<Vec<String>> {
    let text = text();
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect()
    };
    let mut lines = text.lines().skip_while(|line| !line.starts_with('|') || cells(line)[0] != title);
    assert!(lines.next().is_some(), "docs/PROTOCOL.md has no table `{title}`");
    lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect()
}

/// The bytes that hexadecimal digits spell; white space does not count.
pub(crate) fn bytes_of(digits: &str) -> Vec<u8> {
    let digits: Vec<u32> = digits
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).unwrap_or_else(|| panic!("{c:?} is no hexadecimal digit")))
        .collect();
    assert!(digits.len().is_multiple_of(2), "half a byte");
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

/// Two digits a byte, for messages that show what differs.
pub(crate) fn digits_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
