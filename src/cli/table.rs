//! Aligned columns.

/// Rows of text; every cell is as wide as the widest of its column, numbers stand to the right. What names and texts of
/// others have in them never reaches a terminal as a command to it: control characters are written as escapes.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(heads: &[&str]) -> Table {
        Table { rows: vec![heads.iter().map(|&head| head.to_owned()).collect()] }
    }

    /// As many cells as there are heads.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let row: Vec<String> = cells.into_iter().map(printable).collect();
        assert_eq!(row.len(), self.rows[0].len(), "a row has a cell for each head");
        self.rows.push(row);
    }

    pub(super) fn text(&self) -> String {
        let columns = self.rows[0].len();
        let width = |text: &str| text.chars().count();
        let widths: Vec<usize> = (0..columns)
            .map(|column| self.rows.iter().map(|row| width(&row[column])).max().unwrap_or(0))
            .collect();
        let to_right: Vec<bool> = (0..columns)
            .map(|column| self.rows.len() > 1 && self.rows[1..].iter().all(|row| is_number(&row[column])))
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let blanks = " ".repeat(widths[column] - width(cell));
                let (before, behind) = if to_right[column] { (&*blanks, "") } else { ("", &*blanks) };
                let gap = if column == 0 { "" } else { "  " };
                line.extend([gap, before, cell, behind]);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

fn printable(cell: String) -> String {
    if !cell.contains(char::is_control) {
        return cell;
    }
    let letters = cell.chars().map(|letter| match letter.is_control() {
        true => letter.escape_default().to_string(),
        false => letter.to_string(),
    });
    letters.collect()
}

fn is_number(cell: &str) -> bool {
    cell == "-" || cell.parse::<i64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["TOPIC", "PARTITIONS", "NOTE"]);
        table.row(["a".to_owned(), "3".to_owned(), String::new()]);
        table.row(["größer".to_owned(), "12".to_owned(), "x y".to_owned()]);
        assert_eq!(table.text(), "TOPIC   PARTITIONS  NOTE\na                3\ngrößer          12  x y\n");
        assert_eq!(Table::new(&["TOPIC", "NOTE"]).text(), "TOPIC  NOTE\n");
    }

    #[test]
    fn a_cell_cannot_command_a_terminal() {
        let mut table = Table::new(&["A", "B"]);
        table.row(["\x1b[2J".to_owned(), "a\nb\0".to_owned()]);
        assert_eq!(table.text(), "A          B\n\\u{1b}[2J  a\\nb\\u{0}\n");
    }
}
