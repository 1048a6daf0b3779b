//! Columns for people: two spaces between them, the last one ragged, nothing drawn.

/// Lays rows out under their headings. Cells must hold no line breaks.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    table_with(headings, rows, usize::MAX, |word| word.to_owned())
}

/// As [`table`], with one column of words that are painted. Colours have no width.
pub(crate) fn table_with(
    headings: &[&str],
    rows: &[Vec<String>],
    painted: usize,
    paint: impl Fn(&str) -> String,
) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([headings[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let heading: Vec<String> = headings.iter().map(|heading| (*heading).to_owned()).collect();
    let mut text = String::new();
    for (index, row) in std::iter::once(&heading).chain(rows).enumerate() {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let padding = width - cell.chars().count();
            match index > 0 && column == painted {
                true => line.push_str(&paint(cell)),
                false => line.push_str(cell),
            }
            line.push_str(&" ".repeat(padding + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".into(), "größer".into()], vec!["bbb".into(), "c".into()]];
        assert_eq!(table(&["X", "LONG"], &rows), "X    LONG\na    größer\nbbb  c\n");
        let loud = table_with(&["X", "LONG"], &rows, 0, |cell| format!("<{cell}>"));
        assert_eq!(loud, "X    LONG\n<a>    größer\n<bbb>  c\n");
    }
}
