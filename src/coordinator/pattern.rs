//! Regular expressions of clients: they match whole names, and are bounded in what they cost.

use regex::{Regex, RegexBuilder};

/// Of an expression, bytes.
const LENGTH_MAX: usize = 4_096;

/// What an expression may take when it is compiled, bytes. Matching takes time in proportion to it at most.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// Matches whole names.
///
/// # Errors
/// Why it is none, or that it is too large.
pub(super) fn compile(regex: &str) -> Result<Regex, String> {
    if regex.len() > LENGTH_MAX {
        return Err(format!("it is longer than {LENGTH_MAX} bytes"));
    }
    let build = |pattern: &str| {
        let mut builder = RegexBuilder::new(pattern);
        builder.size_limit(COMPILED_BYTES_MAX).dfa_size_limit(COMPILED_BYTES_MAX).nest_limit(100);
        builder.build().map_err(|error| error.to_string())
    };
    // by itself first: `a)|(b` is none, but would be one between brackets
    build(regex)?;
    build(&format!("^(?:{regex})$"))
}
