//! Reports as one HTML page that needs nothing else.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::Report;

/// Where the page takes the runs from, and what is said of them: empty lists, so that the file can be opened and checked
/// as it is.
const RUNS_PLACE: &str = "/*REPORTS*/[]";
const TABLES_PLACE: &str = "/*TABLES*/[]";

/// What is said of all runs of a page together; text, no markup.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    pub title: String,
    pub note: String,
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// Writes the page of these runs, side by side.
///
/// # Errors
/// The file system's.
pub fn write_page(path: &Path, reports: &[Report]) -> Result<()> {
    write_page_with(path, reports, &[])
}

/// The same with tables above the runs.
///
/// # Errors
/// The file system's.
pub fn write_page_with(path: &Path, reports: &[Report], tables: &[Table]) -> Result<()> {
    let page = page(reports, tables)?;
    std::fs::write(path, page).with_context(|| format!("writing {}", path.display()))
}

fn page(reports: &[Report], tables: &[Table]) -> Result<String> {
    let runs = in_script(&serde_json::to_string(reports)?);
    let tables = in_script(&serde_json::to_string(tables)?);
    // tables first: a run may have any text in it, that place's name too
    let page = include_str!("page.html").replacen(TABLES_PLACE, &tables, 1);
    Ok(page.replacen(RUNS_PLACE, &runs, 1))
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
    fn the_page_has_one_place_for_the_runs_and_one_for_tables() {
        for place in [RUNS_PLACE, TABLES_PLACE] {
            assert_eq!(include_str!("page.html").matches(place).count(), 1);
            assert!(!page(&[], &[]).expect("a page").contains(place));
        }
        let table = Table {
            title: "</script>".to_owned(),
            note: String::new(),
            head: vec!["what".to_owned()],
            rows: vec![vec!["the cell".to_owned()]],
        };
        let page = page(&[], &[table]).expect("a page");
        assert!(page.contains("\"rows\":[[\"the cell\"]]") && page.contains("\\u003c/script>"));
    }
}
