//! The name that was meant.

/// Of `names` the one that is nearest to `name`, if it is few letters away: one for every four, at most three.
pub fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (name.len() / 4).min(3);
    let near = names.into_iter().map(|other| (distance(name, other), other));
    near.filter(|&(edits, _)| edits <= allowed).min().map(|(_, other)| other)
}

/// How many bytes must be put in, taken out or replaced to make one text of the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_letters_away_is_near() {
        let names = ["orders", "payments", "shipments"];
        for (name, expect) in [
            ("order", Some("orders")),
            ("oders", Some("orders")),
            ("paymenst", Some("payments")),
            ("shipment", Some("shipments")),
            ("returns", None),
            ("x", None),
        ] {
            assert_eq!(nearest(name, names), expect, "{name}");
        }
    }
}
