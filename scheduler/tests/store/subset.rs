//! What no statement may contain, because openGauss, PostgreSQL, Citus or KunlunDB refuse it or
//! understand it differently. Words are told from names by their capitals.

/// Words that stand in no statement, and why.
const NEVER: &[(&str, &[&str])] = &[
    ("not the same on openGauss", &["idle_in_transaction_session_timeout", "discard"]),
    ("openGauss has no LISTEN: use RabbitMQ", &["listen", "unlisten", "notify"]),
    (
        "numbers come from the leader, UUIDs from Rust",
        &["serial", "bigserial", "smallserial", "identity", "nextval", "gen_random_uuid", "sequence"],
    ),
    ("no engine has the other's upsert: update, else insert, else read", &["conflict", "duplicate", "merge"]),
    ("not on all engines", &["lateral", "ordinality", "date_bin", "make_interval", "distinct_on"]),
    ("took more rows than it should: read ids, then compare and set", &["skip", "locked"]),
    ("a DATE is something else on openGauss", &["date"]),
    (
        "time comes as a parameter",
        &[
            "now",
            "clock_timestamp",
            "current_timestamp",
            "localtimestamp",
            "transaction_timestamp",
            "current_date",
        ],
    ),
    ("documents are TEXT", &["json", "jsonb"]),
    (
        "not in the schema of all engines",
        &["trigger", "rule", "language", "generated", "exclude", "include", "domain", "enum", "partition"],
    ),
    ("snapshot isolation on openGauss", &["serializable"]),
    ("pages go by keys", &["offset"]),
    (
        "a word of openGauss",
        &[
            "sysdate",
            "rownum",
            "compact",
            "less",
            "performance",
            "authid",
            "buckets",
            "modify",
            "procedure",
            "minus",
            "reject",
            "excluded",
            "verify",
            "shrink",
        ],
    ),
    ("no schema of ours, or a word of all engines", &["user"]),
];

#[derive(Debug, Clone, PartialEq)]
enum Token<'a> {
    /// A keyword, which is in capitals, or a name.
    Word(&'a str),
    Number(&'a str),
    Param,
    /// What stands between quotes.
    Text(&'a str),
    /// Any other character, or `::`, or an operator of JSON.
    Sign(&'a str),
}

/// What is wrong with a statement.
pub fn broken_rules(sql: &str) -> Vec<String> {
    let tokens = tokens(sql);
    let mut wrong = never(&tokens);
    let mut rule = |broken: bool, text: &str| {
        if broken {
            wrong.push(text.to_owned());
        }
    };
    rule(tokens.contains(&Token::Text("")), "'' is NULL on openGauss");
    rule(tokens.contains(&Token::Sign("\"")), "a quoted name");
    rule(follows(&tokens, &["public", "."]), "the schema public");
    rule(follows(&tokens, &["SELECT", "*"]), "SELECT *: name the columns");
    rule(has_json_operator(&tokens), "an operator of JSON");
    rule(has_division(&tokens), "a division: 1/2 is 0.5 on openGauss");
    rule(has_wide_unnest(&tokens), "unnest of several arrays at once");
    rule(has_select_in_values(&tokens), "a subquery inside VALUES");
    rule(is_modifying_with(&tokens), "WITH that changes rows");
    rule(has_lock_without_cell(&tokens, sql), "a lock without cell_id = $n");
    rule(follows(&tokens, &["ADD", "COLUMN", "IF"]), "ADD COLUMN IF NOT EXISTS");
    rule(
        is_column_with_constraint(&tokens),
        "a column that comes with its constraint: Citus wants ADD CONSTRAINT, with a name",
    );
    rule(is_special_index(&tokens), "a partial, expression or unusual index");
    rule(tokens.first() == Some(&Token::Word("CREATE")) && sql.contains('['), "an array column");
    rule(has_key_without_cell(&tokens), "a key that does not begin with cell_id");
    rule(is_off_cell(&tokens, sql), "a cell's table without cell_id");
    if let Some(name) = alias_without_as(&tokens) {
        wrong.push(format!("the alias {name} without AS"));
    }
    wrong
}

fn never(tokens: &[Token<'_>]) -> Vec<String> {
    let mut wrong = Vec::new();
    for token in tokens {
        let Token::Word(word) = token else { continue };
        let lower = word.to_ascii_lowercase();
        for (why, words) in NEVER {
            if words.contains(&lower.as_str()) {
                wrong.push(format!("{word}: {why}"));
            }
        }
        if lower.starts_with("pg_advisory") || lower.starts_with("pg_try_advisory") {
            wrong.push(format!("{word}: advisory locks are per node on Citus"));
        }
    }
    wrong
}

fn tokens(sql: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut rest = sql.trim_start();
    while let Some(first) = rest.chars().next() {
        let while_in = |text: &str, inside: fn(char) -> bool| text.find(|c| !inside(c)).unwrap_or(text.len());
        let (token, length) = if first.is_ascii_alphabetic() || first == '_' {
            let end = while_in(rest, |c| c.is_ascii_alphanumeric() || c == '_');
            (Token::Word(&rest[..end]), end)
        } else if first.is_ascii_digit() {
            let end = while_in(rest, |c| c.is_ascii_digit());
            (Token::Number(&rest[..end]), end)
        } else if first == '$' {
            (Token::Param, 1 + while_in(&rest[1..], |c| c.is_ascii_digit()))
        } else if first == '\'' {
            let end = rest[1..].find('\'').unwrap_or(rest.len() - 2);
            (Token::Text(&rest[1..=end]), end + 2)
        } else {
            let pair = ["::", "->", "@>", "#>", "<@"].into_iter().find(|pair| rest.starts_with(pair));
            let end = pair.map_or(first.len_utf8(), str::len);
            (Token::Sign(&rest[..end]), end)
        };
        found.push(token);
        rest = rest[length..].trim_start();
    }
    found
}

fn text<'a>(token: &Token<'a>) -> &'a str {
    match token {
        Token::Word(text) | Token::Number(text) | Token::Sign(text) => text,
        Token::Param | Token::Text(_) => "",
    }
}

/// Whether these stand somewhere one after the other.
fn follows(tokens: &[Token<'_>], words: &[&str]) -> bool {
    tokens.windows(words.len()).any(|window| window.iter().map(text).eq(words.iter().copied()))
}

fn has_json_operator(tokens: &[Token<'_>]) -> bool {
    tokens.iter().any(|token| matches!(token, Token::Sign("->" | "@>" | "#>" | "<@" | "?")))
}

/// The one division that is meant to fail is `1/count(*)`.
fn has_division(tokens: &[Token<'_>]) -> bool {
    let divisions = tokens.iter().filter(|token| **token == Token::Sign("/")).count();
    let meant = ["1", "/", "count", "(", "*", ")"];
    let failing = tokens.windows(meant.len()).filter(|w| w.iter().map(text).eq(meant)).count();
    divisions > failing
}

/// What stands between the parenthesis that opens at `open` and its partner.
fn inside<'t, 'a>(tokens: &'t [Token<'a>], open: usize) -> &'t [Token<'a>] {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token {
            Token::Sign("(") => depth += 1,
            Token::Sign(")") => depth -= 1,
            Token::Word(_) | Token::Number(_) | Token::Param | Token::Text(_) | Token::Sign(_) => {}
        }
        if depth == 0 {
            return &tokens[open + 1..at];
        }
    }
    &tokens[open..]
}

/// What follows each `word` in parentheses.
fn arguments<'t, 'a>(tokens: &'t [Token<'a>], word: &str) -> Vec<&'t [Token<'a>]> {
    let opens = |w: &[Token<'_>]| text(&w[0]).eq_ignore_ascii_case(word) && w[1] == Token::Sign("(");
    let at = tokens.windows(2).enumerate().filter(|(_, w)| opens(w));
    at.map(|(at, _)| inside(tokens, at + 1)).collect()
}

fn has_wide_unnest(tokens: &[Token<'_>]) -> bool {
    arguments(tokens, "unnest").iter().any(|inner| inner.contains(&Token::Sign(",")))
}

fn has_select_in_values(tokens: &[Token<'_>]) -> bool {
    arguments(tokens, "VALUES").iter().any(|inner| inner.contains(&Token::Word("SELECT")))
}

fn is_modifying_with(tokens: &[Token<'_>]) -> bool {
    tokens.first() == Some(&Token::Word("WITH"))
        && ["INSERT", "UPDATE", "DELETE"].iter().any(|word| tokens.contains(&Token::Word(word)))
}

fn has_lock_without_cell(tokens: &[Token<'_>], sql: &str) -> bool {
    let locks = follows(tokens, &["FOR", "UPDATE"]) || follows(tokens, &["FOR", "SHARE"]);
    locks && !sql.contains("cell_id = $")
}

fn is_special_index(tokens: &[Token<'_>]) -> bool {
    let create = follows(&tokens[..tokens.len().min(2)], &["CREATE", "INDEX"])
        || follows(&tokens[..tokens.len().min(3)], &["CREATE", "UNIQUE", "INDEX"]);
    let parentheses = tokens.iter().filter(|token| **token == Token::Sign("(")).count();
    create
        && (parentheses != 1
            || tokens.contains(&Token::Word("WHERE"))
            || tokens.contains(&Token::Word("USING")))
}

/// `NOT NULL` and `DEFAULT` may come with it.
fn is_column_with_constraint(tokens: &[Token<'_>]) -> bool {
    let adds_column = follows(tokens, &["ADD", "COLUMN"]);
    let words = ["CHECK", "UNIQUE", "PRIMARY", "REFERENCES"];
    adds_column && words.iter().any(|word| tokens.contains(&Token::Word(word)))
        || follows(tokens, &["ADD", "CHECK"])
        || follows(tokens, &["ADD", "UNIQUE"])
        || tokens.iter().filter(|token| **token == Token::Word("ADD")).count() > 1
}

fn is_of_cell(tokens: &[Token<'_>]) -> bool {
    follows(tokens, &["sched", "."]) || follows(tokens, &["hist", "."])
}

fn has_key_without_cell(tokens: &[Token<'_>]) -> bool {
    let is_table = follows(&tokens[..tokens.len().min(2)], &["CREATE", "TABLE"]);
    let keys = [arguments(tokens, "KEY"), arguments(tokens, "UNIQUE")].concat();
    is_table && is_of_cell(tokens) && keys.iter().any(|key| key.first() != Some(&Token::Word("cell_id")))
}

fn is_off_cell(tokens: &[Token<'_>], sql: &str) -> bool {
    let is_query = !matches!(tokens.first(), Some(Token::Word("CREATE" | "ALTER" | "ANALYZE")));
    is_query && is_of_cell(tokens) && !sql.contains("cell_id")
}

/// A name right after something that ends an expression, or after another name.
fn alias_without_as<'a>(tokens: &[Token<'a>]) -> Option<&'a str> {
    let is_name = |word: &str| word.starts_with(|c: char| c.is_ascii_lowercase());
    tokens.windows(2).find_map(|pair| match (&pair[0], &pair[1]) {
        (Token::Word(before), Token::Word(name)) => (is_name(before) && is_name(name)).then_some(*name),
        (Token::Number(_) | Token::Param | Token::Text(_) | Token::Sign(")" | "]"), Token::Word(name)) => {
            is_name(name).then_some(*name)
        }
        (_, _) => None,
    })
}

#[test]
fn what_the_engines_disagree_about_is_found() {
    for sql in [
        "SELECT a FROM core.users u",
        "SELECT count(*) n FROM core.users",
        "SELECT * FROM core.users",
        "INSERT INTO core.users (uid) VALUES ($1) ON CONFLICT DO NOTHING",
        "SELECT unnest($1::UUID[], $2::TEXT[])",
        "INSERT INTO core.users (uid) VALUES ((SELECT 1))",
        "WITH d AS (DELETE FROM core.users WHERE uid = $1) SELECT 1",
        "SELECT cid FROM sched.containers WHERE cell_id = $1 LIMIT 1 FOR UPDATE SKIP LOCKED",
        "SELECT 1 FROM core.users FOR UPDATE",
        "SELECT a FROM core.users WHERE name = ''",
        "SELECT a FROM core.users WHERE t < now()",
        "SELECT sum(a) / 2 FROM core.users",
        "SELECT spec -> 'a' FROM core.users",
        "SELECT \"a\" FROM core.users",
        "SELECT a FROM core.users ORDER BY a LIMIT 1 OFFSET 5",
        "SELECT a FROM public.t",
        "SELECT cid FROM sched.containers WHERE cid = $1",
        "CREATE TABLE core.t (a SERIAL)",
        "CREATE TABLE core.t (a TEXT[])",
        "CREATE TABLE sched.t (cell_id INTEGER, a TEXT, PRIMARY KEY (a))",
        "CREATE TABLE sched.t (cell_id INTEGER, a TEXT, PRIMARY KEY (cell_id, a), UNIQUE (a))",
        "CREATE INDEX i ON core.t (a) WHERE a IS NULL",
        "CREATE INDEX i ON core.t (lower(a))",
        "ALTER TABLE core.t ADD COLUMN IF NOT EXISTS a TEXT",
        "ALTER TABLE core.t ADD COLUMN a INTEGER CHECK (a > 0)",
        "ALTER TABLE core.t ADD CHECK (a > 0)",
        "ALTER TABLE core.t ADD COLUMN a INTEGER, ADD COLUMN b INTEGER",
        "SELECT pg_advisory_lock(1)",
    ] {
        assert!(!broken_rules(sql).is_empty(), "{sql}");
    }
}

#[test]
fn what_they_agree_about_passes() {
    for sql in [
        "SELECT 1/count(*) FROM (SELECT 1 FROM sched.leader WHERE cell_id = $1 AND epoch = $2 FOR UPDATE) AS l",
        "INSERT INTO core.t (a, b) SELECT $1::INTEGER, unnest($2::TEXT[])",
        "UPDATE core.t AS t SET a = u.a FROM (SELECT unnest($1::BIGINT[]) AS a) AS u WHERE t.a = u.a",
        "CREATE TABLE core.t (a BIGINT NOT NULL CHECK (a >= 0), date_of_birth TIMESTAMPTZ, PRIMARY KEY (a))",
        "CREATE UNIQUE INDEX i ON core.t (a, b)",
        "ALTER TABLE core.t ADD COLUMN a BOOLEAN NOT NULL DEFAULT FALSE",
        "ALTER TABLE core.t ADD CONSTRAINT t_a CHECK (a > 0)",
        "SELECT a FROM core.t WHERE (a, b) < ($1, $2) ORDER BY a DESC LIMIT $3",
    ] {
        assert_eq!(broken_rules(sql), Vec::<String>::new(), "{sql}");
    }
}
