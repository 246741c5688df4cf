//! Java's properties syntax, as in Kafka's server.properties (java.util.Properties.load).

/// One `key=value`, escapes resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Property {
    pub key: String,
    /// Blanks at its end are part of it; Kafka trims them when it reads the type.
    pub value: String,
    /// Counted from 1: where its first line stands.
    pub line: usize,
}

/// The line, counted from 1, and what is wrong with it.
pub(super) type SyntaxError = (usize, String);

/// All properties in their order, repeated ones included.
pub(super) fn parse(text: &str) -> Result<Vec<Property>, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut properties = Vec::new();
    for (line, logical) in logical_lines(text) {
        let (key, value) = split(&logical);
        let unescape = |part| unescape(part).map_err(|what| (line, what));
        properties.push(Property { key: unescape(key)?, value: unescape(value)?, line });
    }
    Ok(properties)
}

const BLANKS: [char; 3] = [' ', '\t', '\u{c}'];

/// Lines that say something, continued ones joined, without the blanks that begin each.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let text = text.replace("\r\n", "\n");
    let mut natural = text.split(['\n', '\r']).map(|line| line.trim_start_matches(BLANKS)).zip(1..);
    let mut logical = Vec::new();
    while let Some((first, number)) = natural.next() {
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut whole = String::new();
        let mut part = first;
        while is_continued(part) {
            whole.push_str(&part[..part.len() - 1]);
            part = natural.next().map_or("", |(next, _)| next);
        }
        whole.push_str(part);
        logical.push((number, whole));
    }
    logical
}

/// The line ends in a backslash that no other backslash escapes.
fn is_continued(line: &str) -> bool {
    line.bytes().rev().take_while(|&byte| byte == b'\\').count() % 2 == 1
}

/// The key ends at the first `=`, `:` or blank that is not escaped; blanks around the separator belong to nobody.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.find(|character: char| {
        let ends = !escaped && (BLANKS.contains(&character) || character == '=' || character == ':');
        escaped = !escaped && character == '\\';
        ends
    });
    let (key, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start_matches(BLANKS);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, value.trim_start_matches(BLANKS))
}

fn unescape(text: &str) -> Result<String, String> {
    if !text.contains('\\') {
        return Ok(text.to_owned());
    }
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let character = match character {
            '\\' => match characters.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some('u') => {
                    let digits: String = characters.by_ref().take(4).collect();
                    let unit = (digits.len() == 4 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
                        .then(|| u16::from_str_radix(&digits, 16).ok())
                        .flatten();
                    let Some(unit) = unit else {
                        return Err(format!("\\u{digits}: \\u takes four hexadecimal digits"));
                    };
                    units.push(unit);
                    continue;
                }
                Some(other) => other,
                None => break,
            },
            plain => plain,
        };
        units.extend_from_slice(character.encode_utf16(&mut [0; 2]));
    }
    // two escapes may make one character, as in Java
    String::from_utf16(&units).map_err(|_| "an escape that is half a character".to_owned())
}
