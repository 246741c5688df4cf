//! When a value is good enough, and what to write when it is not.

/// A number per place, or a word out of those that the kernel offers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rule {
    AtLeast(u64),
    AtMost(u64),
    /// Any of the words is good; the first that the host offers is written.
    OneOf(&'static [&'static str]),
    /// Three numbers (least, default, most) of which only the last counts, as in `tcp_rmem`.
    MostAtLeast(u64),
}

impl Rule {
    /// The wish as the operator reads it.
    pub(crate) fn wanted(self) -> String {
        match self {
            Rule::AtLeast(least) => format!("at least {least}"),
            Rule::AtMost(0) => "0".into(),
            Rule::AtMost(most) => format!("at most {most}"),
            Rule::OneOf(words) => words.join(" or "),
            Rule::MostAtLeast(least) => format!("third at least {least}"),
        }
    }

    /// Whether `text` is good enough; nothing when it cannot be understood.
    pub(crate) fn holds(self, text: &str) -> Option<bool> {
        match self {
            Rule::AtLeast(least) => Some(number(text)? >= least),
            Rule::AtMost(most) => Some(number(text)? <= most),
            Rule::OneOf(words) => (!text.is_empty()).then(|| words.contains(&chosen(text))),
            Rule::MostAtLeast(least) => Some(three(text)?[2] >= least),
        }
    }

    /// What to write in place of `text`; nothing when the host offers none of the good words.
    pub(crate) fn better(self, text: &str) -> Option<String> {
        match self {
            Rule::AtLeast(value) | Rule::AtMost(value) => Some(value.to_string()),
            Rule::OneOf(words) => {
                let offered = offered(text);
                let word = words.iter().find(|&word| offered.is_empty() || offered.contains(word))?;
                Some((*word).to_owned())
            }
            Rule::MostAtLeast(least) => {
                let [low, default, _] = three(text)?;
                Some(format!("{low}\t{default}\t{least}"))
            }
        }
    }
}

/// The value in force: the word in brackets of `always [madvise] never`, or the whole text where there are none.
pub(crate) fn chosen(text: &str) -> &str {
    text.split_whitespace()
        .find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))
        .unwrap_or_else(|| text.trim())
}

/// The words to choose from; none where the file shows only its value.
fn offered(text: &str) -> Vec<&str> {
    if chosen(text) == text.trim() {
        return Vec::new();
    }
    text.split_whitespace().map(|word| word.trim_start_matches('[').trim_end_matches(']')).collect()
}

/// Whether two texts say the same: the kernel answers with tabs where spaces were written.
pub(crate) fn same(left: &str, right: &str) -> bool {
    chosen(left).split_whitespace().eq(chosen(right).split_whitespace())
}

/// A number; "unlimited" is more than any.
pub(crate) fn number(text: &str) -> Option<u64> {
    match text.trim() {
        "unlimited" => Some(u64::MAX),
        digits => digits.parse().ok(),
    }
}

fn three(text: &str) -> Option<[u64; 3]> {
    let numbers: Vec<u64> = text.split_whitespace().map(number).collect::<Option<_>>()?;
    numbers.try_into().ok()
}

/// Processor numbers of a list as the kernel writes it: `0-2,5` is 0, 1, 2, 5.
pub(crate) fn processor_list(text: &str) -> Option<Vec<u32>> {
    /// No kernel is built for more; a strange file must not fill the memory.
    const PROCESSORS_MAX: u32 = 1 << 16;
    let mut processors = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= PROCESSORS_MAX {
            return None;
        }
        processors.extend(first..=last);
    }
    Some(processors)
}
