//! Reports as one HTML page that needs nothing else.

use std::path::Path;

use anyhow::{Context, Result};

use super::Report;

/// Where the page takes the runs from: an empty list, so that the file can be opened and checked as it is.
const PLACE: &str = "/*REPORTS*/[]";

/// Writes the page of these runs, side by side.
///
/// # Errors
/// The file system's.
pub fn write_page(path: &Path, reports: &[Report]) -> Result<()> {
    let page = page(reports)?;
    std::fs::write(path, page).with_context(|| format!("writing {}", path.display()))
}

fn page(reports: &[Report]) -> Result<String> {
    let data = serde_json::to_string(reports)?;
    Ok(include_str!("page.html").replacen(PLACE, &in_script(&data), 1))
}

/// JSON that stays data inside a script element: `<` begins nothing there (`</script>`, `<!--`), and no line ends
/// inside a string. These characters stand only in strings, where an escape means the same.
fn in_script(json: &str) -> String {
    json.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_cannot_leave_its_script() {
        let hostile = "</script><!--<script>\u{2028}\u{2029}\"\\&";
        let escaped = in_script(&serde_json::to_string(hostile).expect("text"));
        assert!(!escaped.contains(['<', '\u{2028}', '\u{2029}']), "{escaped}");
        assert_eq!(serde_json::from_str::<String>(&escaped).expect("JSON still"), hostile);
    }

    #[test]
    fn the_page_has_one_place_for_the_runs() {
        assert_eq!(include_str!("page.html").matches(PLACE).count(), 1);
        assert!(!page(&[]).expect("a page").contains(PLACE));
    }
}
