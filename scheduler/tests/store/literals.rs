//! The strings of a Rust source, as far as it takes to find SQL in them.

/// How a statement begins.
const BEGINNINGS: [&str; 20] = [
    "SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "CREATE", "ALTER", "DROP", "LOCK", "TRUNCATE", "COPY",
    "MERGE", "SET", "GRANT", "REVOKE", "CALL", "DO", "EXPLAIN", "VACUUM", "ANALYZE",
];

/// Characters that would otherwise seem to begin or end a string.
const CHARACTERS: [&str; 4] = ["'\"'", "'\\\"'", "'\\''", "'\\\\'"];

/// Whether a string begins like a statement that goes on.
pub fn looks_like_sql(text: &str) -> bool {
    let text = text.trim_start();
    BEGINNINGS
        .iter()
        .any(|word| text.strip_prefix(word).is_some_and(|rest| rest.starts_with(char::is_whitespace)))
}

/// Every string literal of `source`, with its escapes read.
pub fn strings(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(at) = rest.find(['"', '/', '\'', 'r']) {
        let (before, here) = rest.split_at(at);
        let after_name = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        rest = if here.starts_with("//") {
            here.find('\n').map_or("", |end| &here[end..])
        } else if let Some(text) = here.strip_prefix('"') {
            quoted(text, &mut found)
        } else if let Some(end) = here.strip_prefix('r').filter(|_| !after_name).and_then(raw_end) {
            raw(&here[1..], end, &mut found)
        } else if let Some(after) = CHARACTERS.iter().find_map(|c| here.strip_prefix(c)) {
            after
        } else {
            &here[1..]
        };
    }
    found
}

/// Reads up to the closing quote; what follows it.
fn quoted<'a>(text: &'a str, found: &mut Vec<String>) -> &'a str {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                found.push(value);
                return &text[at + 1..];
            }
            '\\' => match chars.next() {
                // What follows a line's end begins at its first letter.
                Some((_, '\n')) => {
                    while chars.as_str().starts_with(char::is_whitespace) {
                        chars.next();
                    }
                }
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped)) => value.push(escaped),
                None => {}
            },
            _ => value.push(c),
        }
    }
    ""
}

/// What ends the raw string that begins after this `r`.
fn raw_end(text: &str) -> Option<String> {
    let hashes = text.len() - text.trim_start_matches('#').len();
    text[hashes..].starts_with('"').then(|| format!("\"{}", "#".repeat(hashes)))
}

fn raw<'a>(text: &'a str, end: String, found: &mut Vec<String>) -> &'a str {
    let text = &text[end.len()..];
    let Some(at) = text.find(&end) else { return "" };
    found.push(text[..at].to_owned());
    &text[at + end.len()..]
}

#[test]
fn strings_are_found_between_comments_and_characters() {
    let source = r##"
        // "not this"
        let a = "SELECT 1 \
                 FROM \"x\""; let q = '"'; let e = '\''; let s = "two";
        let raw = r#"UPDATE "y""#; fn for_all<'a>(x: &'a str) {} let last = r"DELETE ";
    "##;
    assert_eq!(strings(source), ["SELECT 1 FROM \"x\"", "two", "UPDATE \"y\"", "DELETE "]);
    assert!(looks_like_sql("\nSELECT 1") && looks_like_sql("SET x = 1"));
    assert!(!looks_like_sql("SELECTED") && !looks_like_sql("a SELECT ") && !looks_like_sql("COMMIT"));
}
