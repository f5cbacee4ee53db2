//! Aligned columns without lines.

use comfy_table::{Table, presets};

/// Columns under headings; nothing if there are no rows. Empty cells are shown as `-`.
pub fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headings.iter().copied());
    let mut empty = true;
    for row in rows {
        empty = false;
        table.add_row(row.into_iter().map(|cell| if cell.is_empty() { "-".to_owned() } else { cell }));
    }
    if empty {
        return String::new();
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    text.shrink_to_fit();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_trails() {
        let text = table(
            &["NAME", "VFS"],
            [vec!["ens1f0".to_owned(), "7".to_owned()], vec!["ens2f0np0".to_owned(), String::new()]],
        );
        assert_eq!(text, "NAME       VFS\nens1f0     7\nens2f0np0  -\n");
        assert_eq!(table(&["NAME"], []), "");
    }
}
