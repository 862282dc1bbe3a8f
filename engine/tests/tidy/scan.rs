//! Just enough of Rust's lexing to tell code from comments and literals, and functions from each other.
//!
//! Deliberately not here: parsing. The house formats with rustfmt, so braces balance and `fn` is a keyword.

/// How an attribute begins that keeps what follows out of everything but tests.
const TEST_ONLY: [&str; 2] = ["#[cfg(test)]", "#[cfg(all(test,"];

/// A function of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// From the line of its `fn` to that of its closing brace.
    pub(crate) lines: usize,
}

/// The text with comments, strings and characters blanked out; lines stay where they are.
pub(crate) fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped =
            comment(rest).or_else(|| raw_string(rest)).or_else(|| string(rest)).or_else(|| character(rest));
        match skipped {
            Some(len) => {
                code.extend(rest[..len].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
                rest = &rest[len..];
            }
            None => {
                // A name is taken whole, so that the `r` in `for"` or `b` in `rob'` starts no literal.
                let name = rest.len() - rest.trim_start_matches(is_name).len();
                let len = name.max(first.len_utf8());
                code.push_str(&rest[..len]);
                rest = &rest[len..];
            }
        }
    }
    code
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    Some(rest.len())
}

fn raw_string(rest: &str) -> Option<usize> {
    let prefix = ["r", "br", "cr"].into_iter().find(|prefix| {
        rest.strip_prefix(prefix).is_some_and(|behind| behind.trim_start_matches('#').starts_with('"'))
    })?;
    let behind = &rest[prefix.len()..];
    let hashes = behind.len() - behind.trim_start_matches('#').len();
    let open = prefix.len() + hashes + 1;
    let close = format!("\"{}", "#".repeat(hashes));
    Some(rest[open..].find(&close).map_or(rest.len(), |at| open + at + close.len()))
}

fn string(rest: &str) -> Option<usize> {
    let open = ["\"", "b\"", "c\""].into_iter().find(|open| rest.starts_with(open))?.len();
    let mut escaped = false;
    for (at, c) in rest[open..].char_indices() {
        match c {
            '"' if !escaped => return Some(open + at + 1),
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    Some(rest.len())
}

/// A character literal; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let open = ["'", "b'"].into_iter().find(|open| rest.starts_with(open))?.len();
    let mut behind = rest[open..].char_indices();
    let (_, first) = behind.next()?;
    let close = if first == '\\' {
        // What follows the backslash belongs to the escape, even a quote.
        behind.next()?;
        behind.find(|(_, c)| *c == '\'')?.0
    } else {
        behind.next().filter(|(_, c)| *c == '\'')?.0
    };
    Some(open + close + 1)
}

/// The functions with a body in code that has been through [`code_only`], in the order of their ends.
pub(crate) fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    // Functions whose body is open: name, first line, depth of braces outside of the body.
    let mut open: Vec<(String, usize, usize)> = Vec::new();
    // A function whose name was read, but not yet its body: name, line, depth of brackets.
    let mut head: Option<(String, usize, usize)> = None;
    let (mut line, mut braces, mut brackets) = (1, 0, 0);
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let word_len = rest.len() - rest.trim_start_matches(is_name).len();
        if word_len > 0 {
            let (word, behind) = rest.split_at(word_len);
            let name: String = behind.trim_start().chars().take_while(|c| is_name(*c)).collect();
            // `fn(u8)` is a type, not a function.
            if word == "fn" && !name.is_empty() {
                head = Some((name, line, brackets));
            }
            rest = behind;
            continue;
        }
        match first {
            '\n' => line += 1,
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            // A declaration without a body; `[u8; 4]` in a signature stands inside brackets.
            ';' if head.as_ref().is_some_and(|(_, _, depth)| *depth == brackets) => head = None,
            '{' => {
                if let Some((name, start, _)) = head.take_if(|(_, _, depth)| *depth == brackets) {
                    open.push((name, start, braces));
                }
                braces += 1;
            }
            '}' => {
                braces -= 1;
                if let Some((name, start, _)) = open.pop_if(|(_, _, depth)| *depth == braces) {
                    found.push(Function { name, lines: line - start + 1 });
                }
            }
            _ => {}
        }
        rest = &rest[first.len_utf8()..];
    }
    found
}

/// The code with the bodies of test modules blanked out; lines stay where they are.
pub(crate) fn without_test_modules(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = TEST_ONLY.iter().filter_map(|attribute| rest.find(attribute)).min() {
        // `mod tests;` has its body in a file of its own.
        let Some(open) = rest[at..].find(['{', ';']).map(|open| at + open) else { break };
        let mut depth = 0_usize;
        let close = rest[open..].find(|c| {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        let end = close.map_or(rest.len(), |close| open + close);
        kept.push_str(&rest[..at]);
        kept.extend(rest[at..end].chars().filter(|c| *c == '\n'));
        rest = &rest[end..];
    }
    kept.push_str(rest);
    kept
}

#[test]
fn comments_and_literals_are_not_code() {
    let text = "let a = \"{ // \\\" }\"; // }\nlet b = '{'; let c: &'a str = r#\"}\"}\"#; /* { /* { */ */ '\\''; b'}'";
    let code = code_only(text);
    assert!(!code.contains(['{', '}']), "{code}");
    assert!(code.contains("&'a str"), "a lifetime is no character: {code}");
    assert_eq!(code.lines().count(), 2);
}

#[test]
fn functions_are_measured_from_head_to_brace() {
    let code = "trait T { fn declared(&self) -> [u8; 4]; }\n\
                fn outer(f: fn(u8)) {\n    call(|| { fn inner() {} });\n    { }\n}\n";
    let found: Vec<_> = functions(code).into_iter().map(|function| (function.name, function.lines)).collect();
    assert_eq!(found, [("inner".to_owned(), 1), ("outer".to_owned(), 4)]);
}

#[test]
fn test_modules_are_left_out() {
    let code = "a();\n#[cfg(test)]\nmod tests {\n    fn x() { b() }\n}\nc();\n\
                #[cfg(test)]\nmod elsewhere;\nfn real() { d() }\n#[cfg(all(test, unix))] mod t { e() }";
    let kept = without_test_modules(code);
    assert!(["a()", "c()", "d()"].iter().all(|call| kept.contains(call)), "{kept}");
    assert!(["b()", "e()"].iter().all(|call| !kept.contains(call)), "{kept}");
    assert_eq!(kept.lines().position(|line| line.contains("c()")), Some(5), "lines stay where they are");
}
